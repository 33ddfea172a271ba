"""Packages of the measured models, made once and again when what made them is another."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import eipack
from benchmarks import children
from benchmarks.processes import FOLDER, fresh

PROGRAMS = ("torchscript", "exported", "onnx")


def package(name: str) -> Path:
    """Return a model's package with every portable program; the small one has TorchScript alone."""
    path = FOLDER / f"{name}.eipack"
    if not _is_current(path):
        print(f"making {path.name}", file=sys.stderr)
        programs = PROGRAMS[:1] if name == "small" else PROGRAMS
        fresh(children.make, name, path, *programs)
    return path


def standalone(name: str) -> Path:
    """Return the model's TorchScript program as a file for `torch.jit.load`."""
    packed = package(name)
    path = packed.with_suffix(".pt")
    if not path.exists() or path.stat().st_mtime < packed.stat().st_mtime:
        fresh(children.extract, packed, path)
    return path


def _is_current(path: Path) -> bool:
    try:
        with eipack.open(path) as found:
            made = found.manifest.environment
    except eipack.EipackError:
        return False
    # The installed version may lack the local part (`+cu130`) that torch gives itself.
    same_torch = made.torch.partition("+")[0] == version("torch").partition("+")[0]
    return same_torch and made.eipack == eipack.__version__
