"""OpenMP's threads: every thread that runs PyTorch on the CPU gets a pool of them for itself.

As soon as there are more of them in the process than cores, libgomp's threads no longer wait
awake at the many short barriers of a model, and a ResNet-18 takes half as long again. A thread
that will run no more calls can give its pool back.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any, Final

_SOFT: Final = 1
"""`omp_pause_soft` of OpenMP 5.0: what is needed again is made again."""


def give_back() -> None:
    """Give back the calling thread's pool, outside of any parallel region."""
    library = _openmp()
    if library is not None:
        library.omp_pause_resource_all(_SOFT)


@cache
def _openmp() -> Any:
    """Return the OpenMP library that PyTorch has loaded; None where it has another, or none."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    paths = {line.split(maxsplit=5)[5] for line in lines if "libgomp" in line}
    if len(paths) != 1:
        return None
    library = ctypes.CDLL(paths.pop())
    return library if hasattr(library, "omp_pause_resource_all") else None
