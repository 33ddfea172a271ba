"""One strip a row: the distribution of its latencies, with percentiles and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from attrs import frozen

from eipack.measuring.report import Row
from eipack.pictures.scale import Span, set_scale
from eipack.pictures.sheet import INSIDE, drawable, fit, text_width
from eipack.pictures.styles import ALARM, INK, KINDS, MUTED, PAPER
from eipack.pictures.wording import details_of, figure, kind_of, measured, target_of
from eipack.statistics.percentiles import NS_PER_MS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

MARKS: Final = {"p50_ms": "o", "p90_ms": "D", "p99_ms": "^"}
_HEIGHT: Final = 0.72
_FAILED: Final = 0.44
_BASE: Final = 0.56
_RIDGE: Final = 0.28
_FEW: Final = 30
_BINS: Final = 240
_VISIBLE: Final = 0.012


@frozen
class _Strip:
    """A row, and where the top of its strip is, in inches from the top of the panel."""

    row: Row
    top: float

    @property
    def base(self) -> float:
        return self.top + _BASE


def height_of(rows: Sequence[Row]) -> float:
    """Return the height in inches that the strips take."""
    return sum(_height(row) for row in rows)


def _height(row: Row) -> float:
    return _HEIGHT if measured([row]) else _FAILED


def draw(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw a strip for each row, from the top in their order."""
    axes.set_ylim(height_of(rows) or 1, 0)
    axes.set_yticks([])
    span = Span.of(rows)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    if span is None:
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
    else:
        set_scale(axes, "x", span)
        axes.set_xlabel("latency in ms" + (", logarithmic" if span.log else ""))
    top = 0.0
    for row in rows:
        strip = _Strip(row, top)
        _label(axes, strip)
        if span is not None and measured([row]):
            _ridge(axes, strip, span)
            _marks(axes, strip, span)
            _beyond(axes, strip, span)
        top += _height(row)


def _label(axes: Axes, strip: _Strip) -> None:
    right = _figures(strip.row)
    room = INSIDE - text_width(right, 8) - 0.2
    name = fit(target_of(strip.row), room * 0.6, 9.5, bold=True)
    used = text_width(name, 9.5, bold=True) + 0.1
    across = axes.get_yaxis_transform()
    line: dict[str, Any] = {"transform": across, "va": "baseline", "clip_on": False}
    y = strip.top + 0.17
    axes.text(0, y, name, size=9.5, weight="bold", **line)
    details = fit(details_of(strip.row), room - used, 8)
    axes.text(used / INSIDE, y, details, size=8, color=MUTED, **line)
    axes.text(1, y, right, size=8, ha="right", **line)
    if strip.row.error is not None:
        why = fit(strip.row.error, INSIDE - 0.1, 8)
        axes.text(0, y + 0.17, why, size=8, color=ALARM, **line)


def _figures(row: Row) -> str:
    if not measured([row]):
        return "✗ wrong outputs" if row.wrong else "✗ failed"
    figures = ((name, getattr(row, name)) for name in MARKS)
    text = " · ".join(f"{name[:-3]} {figure(value)}" for name, value in figures if value)
    return f"unstable · {text} ms" if row.stable is False else f"{text} ms"


def _ridge(axes: Axes, strip: _Strip, span: Span) -> None:
    colour = KINDS[kind_of(strip.row)][0]
    ms = np.asarray(strip.row.samples_ns) / NS_PER_MS
    base = strip.base
    axes.plot([span.low, span.high], [base, base], color=MUTED, linewidth=0.5, zorder=2)
    if len(ms) < _FEW:
        axes.plot(ms, np.full(len(ms), base - 0.07), "|", color=colour, markersize=7, zorder=2)
        return
    x, density = _density(ms, span)
    seen = density > _VISIBLE
    ridge = np.where(seen, base - _RIDGE * density, np.nan)
    look: dict[str, Any] = {"color": colour, "alpha": 0.35, "linewidth": 0, "zorder": 1.5}
    axes.fill_between(x, ridge, base, where=seen.tolist(), **look)
    axes.plot(x, ridge, color=colour, linewidth=0.9, zorder=2)


def _density(
    ms: NDArray[np.float64], span: Span
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a smoothed histogram on the scale of the axis, its highest point 1."""
    edges = span.positions(_BINS + 1)
    places = span.to_line(ms)
    counts, _ = np.histogram(places, np.linspace(0, 1, _BINS + 1))
    middle = 0.5 * (edges[:-1] + edges[1:])
    low, high = np.percentile(places, (10, 90))
    wide = max(0.9 * (high - low) / 2.56 * len(ms) ** -0.2 * _BINS, 0.8)  # Silverman's rule
    reach = int(4 * wide) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / wide) ** 2)
    smooth = np.convolve(counts, kernel / kernel.sum(), mode="full")[reach : reach + _BINS]
    return middle, smooth / smooth.max()


def _marks(axes: Axes, strip: _Strip, span: Span) -> None:
    colour = KINDS[kind_of(strip.row)][0]
    for name, mark in MARKS.items():
        value = getattr(strip.row, name)
        if value is None or value > span.high:
            continue
        low, high = strip.row.intervals.get(name, (value, value))
        line: dict[str, Any] = {"color": INK, "linewidth": 1.4, "zorder": 3}
        if high is None:
            high = min(value + 0.05 * (span.high - span.low), span.high)
            axes.plot([high], [strip.base], ">", color=INK, markersize=4, zorder=3)
        ends = [low, min(high, span.high)]
        closed = [0] if strip.row.intervals.get(name, (0, 0))[1] is None else [0, 1]
        look: dict[str, Any] = {"marker": "|", "markersize": 6, "markevery": closed}
        axes.plot(ends, [strip.base, strip.base], **line, **look)
        axes.plot(
            [value],
            [strip.base],
            mark,
            color=colour,
            markersize=6.5,
            markeredgecolor=PAPER,
            markeredgewidth=0.8,
            zorder=4,
        )


def _beyond(axes: Axes, strip: _Strip, span: Span) -> None:
    """Say how many calls lie beyond the axis, so that nothing is cut off unsaid."""
    slower = [ns for ns in strip.row.samples_ns if ns / NS_PER_MS > span.high]
    if slower:
        text = f"{len(slower):,} slower, up to {figure(max(slower) / NS_PER_MS)} ms ▸"
        axes.text(
            1,
            strip.base + 0.11,
            drawable(text),
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="center",
            size=7,
            color=MUTED,
        )


def legend_handles(rows: Sequence[Row]) -> list[Any]:
    """Return the entries of the legend: marks, intervals and kinds."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if not measured(rows):
        return []
    handles: list[Any] = [
        Line2D([], [], color=MUTED, marker=mark, linestyle="", markersize=5.5, label=name[:-3])
        for name, mark in MARKS.items()
    ]
    handles.append(Line2D([], [], color=INK, linewidth=1.6, label="95 % interval"))
    kinds = dict.fromkeys(kind_of(row) for row in measured(rows))
    handles += [Patch(color=KINDS[kind][0], alpha=0.6, label=KINDS[kind][1]) for kind in kinds]
    return handles
