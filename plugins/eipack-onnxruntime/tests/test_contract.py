import pytest

from eipack.testing import BackendContract


class TestCpuOnnxRuntime(BackendContract):
    target = "cpu+onnxruntime"
    supports = frozenset(
        {
            "data_dependent_shapes",
            "dynamic_shapes",
            "empty_outputs",
            "float16",
            "float64",
            "lstm",
            "small_integers",
        }
    )


@pytest.mark.cuda
class TestCudaOnnxRuntime(BackendContract):
    target = "cuda+onnxruntime"
