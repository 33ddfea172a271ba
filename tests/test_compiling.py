"""`eipack.compile`, with the pretended device of the example plugin, which compiles at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import eipack
from eipack.errors import (
    DeviceNotFound,
    ParityFailed,
    ProgramNotFound,
    TargetSyntaxError,
    UnsupportedModel,
    UntrustedPackage,
)

X = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU()).eval()


@pytest.fixture(scope="module")
def file(model: nn.Module, shared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    batch = torch.export.Dim("batch", min=1, max=4)
    with eipack.export(
        model,
        (X,),
        programs=["torchscript", "exported"],
        dynamic_shapes=({0: batch},),
        assets={"labels": list("abcdef")},
    ) as package:
        return package.save(tmp_path_factory.mktemp("compiling") / "model.eipack")


def test_a_native_program_comes_to_stand_beside_the_portable_ones(
    model: nn.Module, file: Path, tmp_path: Path
) -> None:
    made = eipack.compile(file, "toy", tmp_path / "native.eipack")

    eipack.verify(made)
    with eipack.open(made) as package:
        assert [one.id for one in package.programs] == ["torchscript", "exported", "toy"]
        assert package.program("toy").target == "toy"
    for target, kind in (("toy", "toy"), ("cpu", "torchscript")):
        with eipack.load(made, target) as session:
            assert session.program.kind == kind
            torch.testing.assert_close(session(X), model(X).detach())


def test_the_weights_and_all_else_stay_as_they_were(file: Path, tmp_path: Path) -> None:
    made = eipack.compile(file, "toy", tmp_path / "native.eipack")

    with eipack.open(file) as before, eipack.open(made) as after:
        assert after.manifest.entries == before.manifest.entries
        assert after.manifest.tensors == before.manifest.tensors
        assert after.signature == before.signature
        assert after.programs[:2] == before.programs
        assert after.asset("labels.json") == before.asset("labels.json")
        kept = {member.name: member.digest for member in after.manifest.members}
        older = {member.name: member.digest for member in before.manifest.members}
        assert older.items() <= kept.items()


def test_the_evidence_tells_how_it_was_checked(file: Path, tmp_path: Path) -> None:
    made = eipack.compile(file, "toy", tmp_path / "native.eipack")

    with eipack.open(made) as package:
        (evidence,) = (one for one in package.manifest.evidence if one.program == "toy")
    assert (evidence.target, evidence.reference) == ("toy", "itself")
    assert {check.dims["batch"] for check in evidence.checks} == {1, 2, 3, 4}


def test_compiling_again_replaces_the_older_program(file: Path, tmp_path: Path) -> None:
    first = eipack.compile(file, "toy", tmp_path / "first.eipack")
    second = eipack.compile(first, ["toy", "toy:1"], tmp_path / "second.eipack")

    with eipack.open(second) as package:
        native = [(one.id, one.target) for one in package.programs if one.target]
        assert len({one.program for one in package.manifest.evidence}) == 4
    assert native == [("toy", "toy"), ("toy_1", "toy:1")]


def test_a_package_can_be_compiled_in_place(file: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.eipack"
    own.write_bytes(file.read_bytes())

    eipack.compile(own, "toy", own)

    with eipack.load(own, "toy") as session:
        assert session.program.kind == "toy"


def test_a_target_that_compiles_nothing_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="cpu compiles nothing"):
        eipack.compile(file, "cpu", tmp_path / "out.eipack")
    assert not list(tmp_path.iterdir())


def test_no_target_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(TargetSyntaxError, match="no target"):
        eipack.compile(file, [], tmp_path / "out.eipack")


def test_a_device_that_is_not_here_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceNotFound, match="toy:7"):
        eipack.compile(file, "toy:7", tmp_path / "out.eipack")


def test_a_package_without_a_program_to_compile_is_refused(
    model: nn.Module, tmp_path: Path
) -> None:
    with eipack.export(model, (X,), programs="torchscript") as package:
        with pytest.raises(ProgramNotFound, match="export the model again"):
            eipack.compile(package, "toy", tmp_path / "out.eipack")


def test_nothing_is_compiled_before_it_is_trusted(
    file: Path, tmp_path: Path, fresh_home: Path
) -> None:
    with pytest.raises(UntrustedPackage):
        eipack.compile(file, "toy", tmp_path / "out.eipack")


def test_a_program_that_disagrees_is_never_written(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eipack_toy.machine import Machine

    run = Machine.__call__
    monkeypatch.setattr(Machine, "__call__", lambda self, *x: [one + 1 for one in run(self, *x)])

    with pytest.raises(ParityFailed, match="toy program does not agree"):
        eipack.compile(file, "toy", tmp_path / "out.eipack")
    assert not list(tmp_path.iterdir())
