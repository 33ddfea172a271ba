"""Latency over the time of the run, a panel a row, so that drift and outliers are seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eipack.measuring.report import Row
from eipack.pictures.curves import sampled
from eipack.pictures.scale import set_scale, spread_of
from eipack.pictures.sheet import INSIDE, MARGIN, Sheet, fit
from eipack.pictures.styles import INK, KINDS, MUTED
from eipack.pictures.wording import kind_of, name_of
from eipack.statistics.percentiles import NS_PER_MS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_PANEL: Final = 0.66
_PITCH: Final = 1.02
_HEADER: Final = 0.22
_FOOT: Final = 0.5
_LEFT: Final = 0.7
_BUCKETS: Final = 200
_NS_PER_S: Final = 1e9


def sheet_of(rows: Sequence[Row]) -> Sheet:
    """Lay out a panel for each row that has samples, all over the same time."""
    with_samples = sampled(rows)
    sheet = Sheet.blank(_HEADER + _PITCH * len(with_samples) - (_PITCH - _PANEL) + _FOOT)
    times = [_times(row) for row in with_samples]
    first, last = min(float(one.min()) for one in times), max(float(one.max()) for one in times)
    rest = 0.01 * (last - first) or 1.0
    for number, row in enumerate(with_samples):
        axes = sheet.panel(_HEADER + number * _PITCH, _PANEL, left=_LEFT, right=MARGIN)
        _draw(axes, row)
        axes.set_xlim(first - rest, last + rest)
        if number + 1 < len(with_samples):
            axes.tick_params(axis="x", labelbottom=False)
        else:
            axes.set_xlabel("seconds since the run began")
    return sheet


def _times(row: Row) -> NDArray[np.float64]:
    """Return when each call began, in s; back to back where nobody noted it."""
    if len(row.began_ns) == len(row.samples_ns):
        return np.asarray(row.began_ns) / _NS_PER_S
    return (np.cumsum(row.samples_ns) - row.samples_ns[0]) / _NS_PER_S


def _draw(axes: Axes, row: Row) -> None:
    ms = np.asarray(row.samples_ns) / NS_PER_MS
    parts = np.array_split(np.arange(len(ms)), min(_BUCKETS, len(ms)))
    times = _times(row)
    x = np.array([np.mean(times[part]) for part in parts])
    low, middle, high = (
        np.array([reduce(ms[part]) for part in parts]) for reduce in (np.min, np.median, np.max)
    )
    colour = KINDS[kind_of(row)][0]
    _stroke(axes, x, low, high, color=colour, linewidth=1.6, alpha=0.4)
    _stroke(axes, x, middle, middle, color=colour, linewidth=2.6)
    span = spread_of([float(low.min()), float(high.max())])
    set_scale(axes, "y", span)
    if not span.log:
        axes.locator_params(axis="y", nbins=3)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7.5)
    note = "unstable" if row.stable is False else ""
    style: dict[str, Any] = {"transform": axes.transAxes, "size": 8, "va": "baseline"}
    axes.text(0, 1.1, fit(name_of(row), INSIDE - 1.2, 8), color=INK, **style)
    axes.text(1, 1.1, note, color=MUTED, ha="right", weight="bold", **style)


def _stroke(
    axes: Axes,
    x: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    **look: Any,
) -> None:
    """Draw strokes from low to high as one path, which keeps a page small; equal ends are dots."""
    gaps = np.full(len(x), np.nan)
    xs = np.column_stack((x, x, gaps)).ravel()
    ys = np.column_stack((low, high, gaps)).ravel()
    axes.plot(xs, ys, solid_capstyle="round", **look)
