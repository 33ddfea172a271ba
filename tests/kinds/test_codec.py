import pytest

from eipack.errors import ProgramNotFound
from eipack.kinds import PORTABLE, codec


@pytest.mark.parametrize("kind", PORTABLE)
def test_every_portable_kind_has_a_codec(kind):
    found = codec(kind)
    assert all(callable(getattr(found, verb)) for verb in ("save", "load", "extract"))


@pytest.mark.parametrize("kind", ["aoti", "", "../os"])
def test_another_kind_is_answered_with_the_portable_ones(kind):
    with pytest.raises(ProgramNotFound, match="portable kinds are torchscript, exported, onnx"):
        codec(kind)
