"""Scripts for Elastic Inference under the shim, on a real accelerator on this host."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import eipack_eia.compat
import pytest
import torch
from eipack_eia.compat import sessions
from torch import nn

import eipack

eipack_eia.compat.uninstall()  # to collect this file leaves torch as it was

SCRIPTS = Path(__file__).parent / "scripts"
BENCHMARK = Path(__file__).parents[3] / "examples/elastic-inference/gpt_benchmark.py"
SMALL = ["--layers", "1", "--width", "24", "--heads", "2", "--vocabulary", "100"]
TARGET = {"target_device": "eia:0"}
X = torch.linspace(-1, 1, 8).reshape(2, 4)

pytestmark = pytest.mark.usefixtures("attached_accelerator")


@pytest.fixture
def shim() -> Iterator[None]:
    eipack_eia.compat.install()
    yield
    eipack_eia.compat.uninstall()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[eipack.Session]:
    made: list[eipack.Session] = []
    original = sessions._open
    monkeypatch.setattr(sessions, "_open", lambda *given: made.append(original(*given)) or made[-1])
    return made


def script(folder: Path, *arguments: str | Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "eipack_eia.compat", *map(str, arguments)],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.usefixtures("shim")
def test_a_module_answers_from_the_accelerator_as_on_the_client(
    opened: list[eipack.Session],
) -> None:
    module = torch.jit.trace(nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval(), X)
    expected = module(X)
    with torch.jit.optimized_execution(True, TARGET):
        torch.testing.assert_close(module(X), expected)
        torch.testing.assert_close(module.forward(X), expected)
    assert [str(session.target) for session in opened] == ["eia:0"]


@pytest.mark.usefixtures("shim")
def test_what_comes_back_may_be_written_to() -> None:
    module = torch.jit.script(nn.Identity())
    with torch.jit.optimized_execution(True, TARGET):
        answer = module(X)
    answer += 1
    torch.testing.assert_close(answer, X + 1)


@pytest.mark.usefixtures("shim")
def test_an_attached_module_answers_from_the_accelerator(opened: list[eipack.Session]) -> None:
    import torcheia

    module = torcheia.jit.attach_eia(torch.jit.script(nn.Linear(4, 3).eval()), 0)
    expected = module(X)
    with torch.no_grad(), torch.jit.optimized_execution(True):
        torch.testing.assert_close(module(X), expected)
    assert [str(session.target) for session in opened] == ["eia:0"]


@pytest.mark.parametrize("name", ["pytorch_1_3.py", "pytorch_1_5.py"])
def test_an_old_script_runs_as_it_is(name: str, tmp_path: Path) -> None:
    lines = script(tmp_path, SCRIPTS / name)
    assert lines[0].startswith("Using Amazon Elastic Inference Client Library Version: ")
    assert lines[1] == "Number of Elastic Inference Accelerators Available: 1"
    assert lines[2].startswith("Elastic Inference Accelerator ID: eia-")
    assert lines[4] == "Elastic Inference Accelerator Ordinal: 0"
    assert lines[-1] == "same answer: True"


def test_the_gpt_benchmark_runs_as_it_is(tmp_path: Path) -> None:
    lines = script(tmp_path, BENCHMARK, "--calls", "50", *SMALL)
    assert lines[1] == "Number of Elastic Inference Accelerators Available: 1"
    assert [line.partition(":")[0] for line in lines[-4:]] == ["Mean", "P50", "P90", "P95"]
