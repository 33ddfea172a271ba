"""A command line to type at, a folder to work in, and a small package."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from eipack.cli import plugins
from eipack.cli.root import root

MODELS = """
import torch
from torch import nn


class Branching(nn.Module):
    def forward(self, x):
        return x + 1 if x.sum() > 0 else x - 1


def linear(width=3):
    return nn.Sequential(nn.Linear(4, width), nn.Dropout())


def classes():
    model = nn.Linear(4, 6)
    nn.init.ones_(model.bias)
    return model


built = linear()


def fails():
    raise ZeroDivisionError("no model today")


def mismatched():
    raise RuntimeError("operator torchvision::nms does not exist")


def number():
    return 3


def slow():
    import pathlib, time
    pathlib.Path("started").touch()
    time.sleep(60)
"""

Eipack = Callable[..., Result]


@pytest.fixture
def eipack() -> Eipack:
    """Run the command in this process; a result has exit_code, stdout and stderr."""
    # Whoever runs the tests may have a narrow terminal, or none.
    runner = CliRunner(env=dict.fromkeys(("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE")))
    return lambda *words: runner.invoke(root, [str(word) for word in words])


@pytest.fixture
def script() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real console script in a process of its own."""

    def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("eipack")), *map(str, words)]
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            timeout=300,
        )

    return run


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in a folder with a module `cli_models` of small models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "cli_models.py").write_text(MODELS)
    yield tmp_path
    sys.modules.pop("cli_models", None)


@pytest.fixture(scope="session")
def package_file(shared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one package with two programs, labels and a dynamic batch, for reading only."""
    import torch

    from eipack import export

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("packages") / "classes.eipack"
    package = export(
        torch.nn.Linear(4, 6).eval(),
        inputs=(torch.randn(2, 4),),
        method=["trace", "script"],
        dynamic_shapes={"input": {0: torch.export.Dim("batch", min=1, max=4)}},
        assets={"labels": ["ant", "bee", "cat", "dog", "eel", "fox"]},
        name="classes",
        version="1.2",
    )
    package.save(path)
    return path


@pytest.fixture
def plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, str, str], None]]:
    """Install a distribution with one command, as far as importlib.metadata can tell."""

    def install(distribution: str, entry: str, source: str) -> None:
        folder = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n"
        )
        (folder / "entry_points.txt").write_text(f"[eipack.commands]\n{entry}\n")
        module = entry.partition("=")[2].partition(":")[0].strip()
        (tmp_path / f"{module}.py").write_text(source)

    monkeypatch.syspath_prepend(tmp_path)
    plugins._points.cache_clear()
    yield install
    plugins._points.cache_clear()


def assert_one_line(result: Result, code: int, *parts: str) -> None:
    """Check that a command failed as all of them shall."""
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("eipack: error: ")
    for part in parts:
        assert part in lines[0]
