import json
import subprocess
import sys

import msgspec
import pytest
import torch
from torch import nn

import eipack
from eipack.errors import PackageIOError


class Net(nn.Module):
    def __init__(self, width: int = 8, *, shift: float = 0.0, extra: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, width)
        self.a.weight.data += shift
        if extra:
            self.register_buffer("scale", torch.full((4,), 2.0))

    def forward(self, x):
        y = self.a(x)
        return self.b(y * self.scale if hasattr(self, "scale") else y)


X = torch.ones(2, 4)


def package(path, model=None, **options):
    options = {"inputs": (X,), "method": "trace", "name": "net", **options}
    return eipack.export((model or Net()).eval(), **options).save(path)


@pytest.fixture(scope="module")
def base(tmp_path_factory, shared_home):
    return package(tmp_path_factory.mktemp("base") / "a.eipack")


@pytest.fixture
def other(tmp_path):
    def make(model=None, **options):
        return package(tmp_path / "b.eipack", model, **options)

    return make


def test_a_package_does_not_differ_from_itself(base):
    found = eipack.diff(base, base)
    assert found.same
    assert (found.weights.equal, found.weights.equal_bytes) == (4, 4 * (16 + 4 + 32 + 8))


def test_a_changed_tensor_is_named_with_what_changed(base, other):
    weights = eipack.diff(base, other(Net(shift=1.0))).weights
    assert [(one.name, one.what) for one in weights.changed] == [("a.weight", ("values",))]
    assert (weights.equal, weights.added, weights.removed) == (3, (), ())


def test_another_shape_and_another_dtype_are_told_apart(base, other):
    weights = eipack.diff(base, other(Net(width=16))).weights
    assert [one.what[0] for one in weights.changed] == ["shape", "shape"]
    doubled = other(Net().double(), inputs=(X.double(),))
    weights = eipack.diff(base, doubled).weights
    assert {one.what[0] for one in weights.changed} == {"dtype"}
    assert str(weights.changed[0]).startswith(
        "a.weight: dtype, values: a.weight: float32[4, 4], 64"
    )


def test_another_layout_of_equal_values_is_a_change(base, other):
    model = Net()
    model.a.weight = nn.Parameter(model.a.weight.data.t().contiguous().t())
    (change,) = eipack.diff(base, other(model)).weights.changed
    assert change.what == ("layout", "values")


def test_added_and_removed_tensors_are_listed(base, other):
    bigger = other(Net(extra=True))
    assert [one.name for one in eipack.diff(base, bigger).weights.added] == ["scale"]
    assert [one.name for one in eipack.diff(bigger, base).weights.removed] == ["scale"]


def test_the_signature_is_compared_part_by_part(base, other):
    batch = torch.export.Dim("batch", min=1, max=4)
    found = eipack.diff(base, other(dynamic_shapes={"x": {0: batch}})).signature
    assert [str(change) for change in found] == [
        "input x: x: float32[2, 4] -> x: float32[batch, 4]",
        "output output: output: float32[2, 8] -> output: float32[batch, 8]",
        "dimension batch: added batch in 1..4",
    ]


def test_programs_are_compared_by_what_is_in_them(base, other):
    found = {change.name: change for change in eipack.diff(base, other(method="script")).programs}
    assert "method trace" in found["torchscript"].before
    assert "method script" in found["torchscript"].after
    assert "programs/torchscript/graph.pt" in found


def test_programs_are_compared_by_whether_their_rows_are_independent(base, other):
    batch = torch.export.Dim("batch", min=1, max=4)
    found = eipack.diff(base, other(dynamic_shapes={"x": {0: batch}})).programs
    (changed,) = [change for change in found if change.name == "torchscript"]
    assert "rows independent" not in changed.before
    assert "rows independent" in changed.after


def test_names_assets_and_samples_are_compared(base, other):
    found = eipack.diff(base, other(name="new", version="2", assets={"labels": ["a"]}))
    assert [str(change) for change in found.model] == ["name: net -> new", "version: added 2"]
    assert [change.name for change in found.assets] == ["assets/labels.json"]
    assert found.samples == ()
    moved = eipack.diff(base, other(inputs=(X * 2,)))
    assert [change.name for change in moved.samples] == ["samples.safetensors"]
    assert not found.same
    assert not moved.same


def test_another_signer_leaves_packages_the_same(path, rewrite, stranger):
    found = eipack.diff(path, rewrite(path, [stranger]))
    assert found.same
    assert [change.after for change in found.signers if change.after] == [stranger.public.hint]


def test_a_difference_is_json(base, other):
    found = eipack.diff(base, other(Net(shift=1.0)))
    told = json.loads(msgspec.json.encode(found))
    assert told["weights"]["changed"][0]["before"]["shape"] == [4, 4]
    assert msgspec.json.decode(msgspec.json.encode(found), type=eipack.Difference) == found


def test_open_packages_are_compared_and_stay_open(base):
    with eipack.open(base) as one:
        assert eipack.diff(one, base).same
        assert one.signings()


def test_comparing_needs_neither_trust_nor_torch(path, rewrite, stranger, base):
    foreign = rewrite(path, [stranger])
    code = "import sys, eipack; eipack.diff(*sys.argv[1:]); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, str(foreign), str(base)], check=True)


def test_a_file_that_is_not_there_is_named(base, tmp_path):
    with pytest.raises(PackageIOError, match=r"none\.eipack"):
        eipack.diff(base, tmp_path / "none.eipack")
