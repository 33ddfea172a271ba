import pytest

from eipack.testing import CAPABILITIES, BackendContract


@pytest.mark.cuda
class TestCuda(BackendContract):
    target = "cuda"
    supports = frozenset(CAPABILITIES)
