"""How much a package with three programs weighs beside the model's weights alone."""

from __future__ import annotations

from benchmarks import children
from benchmarks.figure import Figure, run
from benchmarks.models import TITLES
from benchmarks.packages import PROGRAMS, package
from benchmarks.processes import fresh

REPEAT = 1
_MODELS = ("gpt", "resnet50", "vit_b_16", "lstm")


def measure(repeat: int = REPEAT) -> list[Figure]:
    """Compare file sizes with the bytes of the state dict; `repeat` is moot, sizes do not vary."""
    return [_figure(name) for name in _MODELS]


def _figure(name: str) -> Figure:
    size = package(name).stat().st_size
    weights = fresh(children.weigh, name)
    return Figure(
        what=f"package with {', '.join(PROGRAMS)} against its weights, {TITLES[name]}",
        asked=1.06,
        measured=size / weights,
        unit="x",
        detail=f"{size / 1e6:.1f} MB against {weights / 1e6:.1f} MB",
        command="python -m benchmarks.size",
        samples=(size / weights,),
    )


if __name__ == "__main__":
    run(measure, REPEAT)
