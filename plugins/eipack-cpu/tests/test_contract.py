from eipack.testing import CAPABILITIES, BackendContract


class TestCpu(BackendContract):
    target = "cpu"
    supports = frozenset(CAPABILITIES)
