"""Packages of the zoo: each made once a process, signed by a key of the kit's own."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import eipack
from eipack.backend import Backend
from eipack.target import Target
from eipack.testing.models import ZooModel

_made: dict[tuple[object, ...], Path] = {}


@cache
def folder() -> Path:
    """Return the folder that the kit keeps its packages and its key in, until the process ends."""
    path = Path(tempfile.mkdtemp(prefix="eipack-kit-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def package_of(
    model: ZooModel, backend: Backend, target: Target, programs: tuple[str, ...] | None = None
) -> Path:
    """Return a package of the model, ready for the target or with the programs asked for.

    Raises:
        EipackError: It cannot be made.
    """
    # backends that compile and save alike (as those of torch do) share their packages
    makers = (type(backend).compile, type(backend).save, backend.kinds)
    compiled = type(backend).compile is not Backend.compile
    key = (model.name, programs) if programs else (model.name, makers, compiled and target)
    if key not in _made:
        _made[key] = _export(model, target, programs, folder() / f"{len(_made)}.eipack")
    return _made[key]


def _export(model: ZooModel, target: Target, programs: tuple[str, ...] | None, path: Path) -> Path:
    inputs = model.inputs()
    package = eipack.export(
        model.module,
        inputs,
        target=None if programs else target,
        programs=programs,
        dynamic_shapes=model.dynamic_shapes,
        name=model.name,
    )
    with package:
        return package.save(path)
