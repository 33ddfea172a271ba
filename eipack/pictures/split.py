"""Where the time of remote calls went: on the wire, waiting, computing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from eipack.measuring.report import Row
from eipack.pictures.sheet import INSIDE, fit
from eipack.pictures.styles import GREEN, ORANGE, PAPER, SKY
from eipack.pictures.wording import figure, measured, name_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PITCH: Final = 0.62
_LOOKS: Final = {
    "network": (SKY, "-----"),
    "queue": (ORANGE, "////"),
    "compute": (GREEN, ""),
}


def split_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows whose parts are known."""
    return [row for row in measured(rows) if row.parts is not None]


def height_of(rows: Sequence[Row]) -> float:
    """Return the height in inches of the panel."""
    return _PITCH * len(split_rows(rows))


def draw(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw a bar for each row, its parts side by side."""
    with_parts = split_rows(rows)
    axes.set_ylim(height_of(rows), 0)
    axes.set_yticks([])
    for number, row in enumerate(with_parts):
        top = number * _PITCH
        began = 0.0
        parts = {name: float(getattr(row.parts, f"{name}_ms")) for name in _LOOKS}
        for name, ms in parts.items():
            colour, hatch = _LOOKS[name]
            label = name if number == 0 else None
            axes.barh(
                top + 0.42,
                ms,
                0.22,
                left=began,
                color=colour,
                hatch=hatch,
                edgecolor=PAPER,
                linewidth=0,
                label=label,
            )
            began += ms
        told = " · ".join(f"{name} {figure(ms)}" for name, ms in parts.items())
        across = axes.get_yaxis_transform()
        name = fit(name_of(row), INSIDE * 0.55, 8.5)
        axes.text(0, top + 0.24, name, transform=across, size=8.5)
        axes.text(1, top + 0.24, f"{told} ms", transform=across, size=8, ha="right")
    axes.set_xlim(left=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel("ms, medians")
