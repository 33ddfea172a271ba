"""What is special to `cpu+inductor`: libraries for one machine, and the cache of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from eipack_cpu.inductor import CpuInductorBackend, instructions
from torch import nn

import eipack
from eipack import aotinductor, inductor
from eipack.errors import EipackError, ProgramNotFound, UnsupportedModel
from eipack.loading import choose
from eipack.manifest import ProgramRecord
from eipack.target import Target

TARGET = Target("cpu", "inductor")
X = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)).eval()


@pytest.fixture(scope="module")
def file(model: nn.Module, shared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    batch = torch.export.Dim("batch", min=1, max=9)
    with eipack.export(model, (X,), target="cpu+inductor", dynamic_shapes=({0: batch},)) as package:
        return package.save(tmp_path_factory.mktemp("inductor") / "mlp.eipack")


@pytest.fixture(scope="module")
def native(file: Path) -> ProgramRecord:
    with eipack.open(file) as package:
        return package.program("inductor")


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: Any) -> None:
        raise UnsupportedModel("there is no compiler here")

    monkeypatch.setattr(inductor, "build", build)


@pytest.mark.slow
def test_the_compiled_program_reads_the_weights_of_the_package(native: ProgramRecord) -> None:
    assert native.target == "cpu+inductor"
    assert native.shared_bytes == (16 * 32 + 32 + 32 * 16 + 16) * 4
    assert sorted(native.bindings) == ["0.bias", "0.weight", "2.bias", "2.weight"]


@pytest.mark.slow
def test_it_answers_at_every_size_without_a_compiler(
    model: nn.Module, file: Path, no_compiler: None
) -> None:
    with eipack.load(file, "cpu+inductor") as session:
        assert session.program.kind == "inductor"
        for rows in (1, 2, 9):
            x = torch.randn(rows, 16)
            torch.testing.assert_close(session(x), model(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_plain_target_opens_the_same_package(model: nn.Module, file: Path) -> None:
    with eipack.load(file, "cpu") as session:
        assert session.program.kind == "exported"
        torch.testing.assert_close(session(X), model(X).detach())


@pytest.mark.slow
def test_a_portable_program_is_compiled_once(
    model: nn.Module, file: Path, fresh_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    build = inductor.build

    def counted(*arguments: Any) -> None:
        made.append(arguments)
        build(*arguments)

    monkeypatch.setattr(inductor, "build", counted)
    package = eipack.open(file)
    monkeypatch.setattr(package, "check_trust", lambda *_: None)  # the fresh home has no keys
    with package:
        for _ in range(2):
            with eipack.load(package, "cpu+inductor", program="exported") as session:
                torch.testing.assert_close(session(X), model(X).detach(), rtol=1e-4, atol=1e-5)

    assert len(made) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("need", "value", "reason"),
    [
        ("torch", "2.0.0", r"was compiled for torch 2\.0\.0, and here it is 2\."),
        ("device", "cuda", "was compiled for device cuda, and here it is cpu"),
        ("isa", "avx999", "was compiled for isa avx999, and it is not here"),
        ("platform", "linux-none", "was compiled for platform linux-none"),
    ],
)
def test_a_program_for_another_machine_is_passed_over_with_the_reason(
    native: ProgramRecord, file: Path, need: str, value: str, reason: str
) -> None:
    other = evolve(native, attributes={**native.attributes, need: value})
    backend = CpuInductorBackend()
    told = backend.why_unusable(other, TARGET)
    assert told is not None
    assert re.match(reason, told)
    with eipack.open(file) as package:
        programs = tuple(other if one.id == native.id else one for one in package.programs)
        package.manifest = evolve(package.manifest, programs=programs)
        assert choose(package, backend, TARGET, None).kind == "exported"
        with pytest.raises(ProgramNotFound, match=reason):
            choose(package, backend, TARGET, "inductor")


@pytest.mark.slow
def test_options_come_too_late_for_a_compiled_program(file: Path) -> None:
    with pytest.raises(EipackError, match="program='exported'"):
        eipack.load(file, "cpu+inductor", options={"inductor": {"freezing": False}})


@pytest.mark.slow
def test_without_a_compiler_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    with eipack.export(
        nn.Linear(3, 2).eval(), (torch.randn(1, 3),), programs="exported"
    ) as package:
        with pytest.raises(UnsupportedModel) as caught:
            eipack.load(package, "cpu+inductor")

    assert "needs a C++ compiler" in str(caught.value)
    assert "install g++" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_compiler_that_never_ends_is_stopped(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aotinductor, "_PATIENCE_S", 0.1)
    with eipack.export(model, (X,), programs="exported") as package:
        with pytest.raises(UnsupportedModel, match="did not compile the program within"):
            eipack.load(package, "cpu+inductor")


def test_an_option_is_true_or_false(model: nn.Module) -> None:
    with eipack.export(model, (X,), programs="exported") as package:
        with pytest.raises(EipackError, match="true or false as max_autotune, not 3"):
            eipack.load(package, "cpu+inductor", options={"inductor": {"max_autotune": 3}})


def test_the_instruction_sets_of_this_processor_are_known() -> None:
    assert instructions().split() == sorted({*instructions().split()})
    assert instructions()
