"""Whether a TorchScript program is as quick on the package's mapped weights as on its own."""

from __future__ import annotations

from statistics import median

from benchmarks import children
from benchmarks.figure import Figure, figure_of, run
from benchmarks.models import TITLES
from benchmarks.processes import fresh

REPEAT = 3
_CALLS = {"gpt": 240, "resnet50": 240, "lstm": 800}


def measure(repeat: int = REPEAT) -> list[Figure]:
    """Time a traced module and its packaged self, taking turns in one process; ratio of medians."""
    return [_figure(name, calls, repeat) for name, calls in _CALLS.items()]


def _figure(name: str, calls: int, repeat: int) -> Figure:
    pairs = [fresh(children.rebound, name, calls) for _ in range(repeat)]
    return figure_of(
        f"p50 of the rebound program against the module never packaged, {TITLES[name]}",
        1.02,
        "x",
        [packed / own for packed, own in pairs],
        "python -m benchmarks.rebound",
        f"{median(packed for packed, _ in pairs) / 1e6:.2f} ms against "
        f"{median(own for _, own in pairs) / 1e6:.2f} ms",
    )


if __name__ == "__main__":
    run(measure, REPEAT)
