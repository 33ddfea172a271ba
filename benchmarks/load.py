"""From a file to the first answer: `eipack.load`, verification included, and `torch.jit.load`."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from benchmarks import children
from benchmarks.figure import Figure, run
from benchmarks.packages import package, standalone
from benchmarks.processes import fresh

REPEAT = 9
_COMMAND = "python -m benchmarks.load"


def measure(repeat: int = REPEAT) -> list[Figure]:
    """Load and call in fresh processes, taking turns, the page cache warm for both.

    Torch is imported before the clock starts, eipack after it.
    """
    packed, file = package("gpt"), standalone("gpt")
    for path in (packed, file):
        _warm(path)
    eipack_s: list[list[float]] = []
    torch_s: list[list[float]] = []
    for turn in range(repeat):
        both = [(children.load_by_eipack, packed), (children.load_by_torch, file)]
        for function, path in both if turn % 2 else both[::-1]:
            times = fresh(function, path, "gpt")
            (eipack_s if function is children.load_by_eipack else torch_s).append(times)
    return [_figure(eipack_s, torch_s)]


def _figure(eipack_s: list[list[float]], torch_s: list[list[float]]) -> Figure:
    ours, theirs = [sum(times) for times in eipack_s], [sum(times) for times in torch_s]
    imported, loaded, first = (median(part) * 1e3 for part in zip(*eipack_s, strict=True))
    _, their_load, their_first = (median(part) * 1e3 for part in zip(*torch_s, strict=True))
    return Figure(
        what="`eipack.load` + first call against `torch.jit.load` + first call, 480 MB GPT",
        asked=0.7,
        measured=median(ours) / median(theirs),
        unit="x",
        detail=(
            f"eipack {median(ours) * 1e3:.0f} ms (import {imported:.0f}, load {loaded:.0f}, "
            f"call {first:.0f}); torch {median(theirs) * 1e3:.0f} ms (load {their_load:.0f}, "
            f"call {their_first:.0f})"
        ),
        command=_COMMAND,
        samples=tuple(our / their for our, their in zip(ours, theirs, strict=True)),
    )


def _warm(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


if __name__ == "__main__":
    run(measure, REPEAT)
