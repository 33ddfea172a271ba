import pytest

from eipack.testing import CAPABILITIES, BackendContract


class TestCpu(BackendContract):
    target = "cpu"
    supports = frozenset(CAPABILITIES)


class TestOneDnn(BackendContract):
    target = "cpu+onednn"
    supports = frozenset(CAPABILITIES)


@pytest.mark.long
class TestInductor(BackendContract):
    target = "cpu+inductor"
    supports = frozenset(CAPABILITIES)
