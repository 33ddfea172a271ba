import pytest
import torch
from torch import nn

from eipack.backend import Program
from eipack.errors import MalformedPackage
from eipack.package.assembly import count_bytes
from eipack.pool import Pool
from eipack.signature import Signature
from eipack.staging import record, stage
from eipack.target import Target
from eipack.tree import TENSOR, Tree

SIGNATURE = Signature((), (), (), Tree("dict"), TENSOR, 0)


def program(model, **options):
    return Program("torchscript", torch.jit.script(model), SIGNATURE, "script", **options)


class Backend:
    """Writes what a test tells it to."""

    def __init__(self, write):
        self.write = write

    def save(self, program, writer):
        self.write(writer)


def test_what_was_written_can_be_read():
    def write(writer):
        writer.member("code", b"1 + 1")
        writer.tensor("w", torch.tensor([1.0, 2.0]))
        writer.attribute("level", "3")

    staged = stage(program(nn.Identity()), Backend(write))
    assert staged.member("code") == b"1 + 1"
    assert list(staged.keys) == ["w"]
    assert staged.storage("w").view(torch.float32).tolist() == [1.0, 2.0]
    assert staged.attributes == {"level": "3"}


@pytest.mark.parametrize(
    "write",
    [
        lambda writer: [writer.member("a", b""), writer.member("a", b"")],
        lambda writer: [writer.tensor("a", torch.ones(1)), writer.tensor("a", torch.ones(1))],
        lambda writer: [writer.attribute("a", ""), writer.attribute("a", "")],
    ],
    ids=["member", "key", "attribute"],
)
def test_writing_one_name_twice_is_refused(write):
    with pytest.raises(MalformedPackage, match="'a' twice"):
        stage(program(nn.Identity()), Backend(write))


def test_a_record_says_what_is_shared_and_what_is_the_programs_own():
    model = nn.Linear(64, 64)
    pool = Pool()
    pool.add_model(model.named_parameters())
    staged = stage(program(model))
    described = count_bytes(record(staged, "main", pool), pool)
    assert described.shared_bytes == 4 * (64 * 64 + 64)
    assert described.own_bytes == len(staged.member("graph.pt"))
    assert described.members == ("programs/main/graph.pt",)
    assert described.target is None


def test_an_exported_program_needs_the_torch_that_wrote_it_and_torchscript_an_older_one():
    exported = torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),))
    staged = stage(Program("exported", exported, SIGNATURE, "export"))
    here = ".".join(torch.__version__.split(".")[:2])
    assert record(staged, "main", Pool()).lowest_torch == here
    assert record(stage(program(nn.Identity())), "main", Pool()).lowest_torch == "2.11"


def test_a_compiled_program_keeps_its_target():
    staged = stage(program(nn.Identity(), target=Target("cpu", "fast")))
    assert record(staged, "main", Pool()).target == "cpu+fast"
