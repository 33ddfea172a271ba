"""The percentile curve: which latency how many calls do not exceed, the tail spread out."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log10
from typing import TYPE_CHECKING, Final

import numpy as np

from eipack.measuring.report import Row
from eipack.pictures.scale import set_scale, spread_of
from eipack.pictures.sheet import INSIDE, LINE, fit
from eipack.pictures.styles import PAPER, series
from eipack.pictures.wording import measured, name_of
from eipack.statistics.percentiles import NS_PER_MS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

HEIGHT: Final = 3.2
_TICKS: Final = (0, 50, 75, 90, 95, 99, 99.9)
_NINES: Final = 3  # 99.9 %
_POINTS: Final = 160


def sampled(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that have enough samples for a curve."""
    return [row for row in measured(rows) if len(row.samples_ns) > 1]


def height_of(rows: Sequence[Row]) -> float:
    """Return the height in inches of the panel with the names under it."""
    return HEIGHT + 0.52 + LINE * 1.06 * len(sampled(rows))


def draw(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw a line for each row; each ends where it rests on one call."""
    ends = list[float]()
    for number, row in enumerate(sampled(rows)):
        x, ms = _curve(row)
        ends += [float(ms[0]), float(ms[-1])]
        name = fit(name_of(row), INSIDE - 1.5, 8)
        look = {"linewidth": 1.6, "markeredgecolor": PAPER, "markersize": 6, **series(number)}
        axes.plot(x, ms, label=name, markevery=_marks(x), **look)
    axes.grid()
    axes.set_axisbelow(True)
    set_scale(axes, "y", spread_of(ends))
    far = max(min(_NINES, log10(len(row.samples_ns))) for row in sampled(rows))
    ticks = [tick for tick in _TICKS if _place(tick) <= far + 1e-9]
    axes.set_xlim(0, far * 1.015)
    axes.set_xticks([_place(tick) for tick in ticks], [f"{tick:g}" for tick in ticks])
    axes.set_xlabel("% of the calls take at most this long")
    axes.set_ylabel("latency in ms")
    below = -0.5 / HEIGHT
    axes.legend(loc="upper left", bbox_to_anchor=(0, below), handlelength=3.4)


def _place(percent: float) -> float:
    """Return where a percentile lies on the axis, in nines."""
    return -log10(1 - percent / 100)


def _curve(row: Row) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    ordered = np.sort(np.asarray(row.samples_ns)) / NS_PER_MS
    count = len(ordered)
    places = np.linspace(0, min(_NINES, log10(count)), min(_POINTS, 4 * count))
    ranks = [ceil(round(count * (1 - 10.0**-place), 6)) for place in places]
    return places, ordered[np.clip(np.array(ranks) - 1, 0, count - 1)]


def _marks(places: NDArray[np.float64]) -> list[int]:
    """Return the points nearest to the percentiles that are marked."""
    wanted = (_place(percent) for percent in (50, 90, 99))
    near = (int(np.argmin(np.abs(places - one))) for one in wanted if one <= places[-1])
    return list(dict.fromkeys(near))
