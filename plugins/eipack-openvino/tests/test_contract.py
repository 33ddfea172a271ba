from eipack.testing import CAPABILITIES, BackendContract


class TestOpenVino(BackendContract):
    target = "cpu+openvino"
    supports = frozenset(CAPABILITIES) - {"complex64", "float64", "small_integers"}
