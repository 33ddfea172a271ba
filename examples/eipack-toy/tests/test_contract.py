from eipack.testing import BackendContract


class TestToy(BackendContract):
    target = "toy"
    supports = frozenset(
        {
            "bfloat16",
            "data_dependent_shapes",
            "dynamic_shapes",
            "empty_outputs",
            "float16",
            "float64",
            "lstm",
        }
    )
