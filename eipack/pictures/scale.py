"""The axis of latencies that rows share: how far it reaches, and whether it is logarithmic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from attrs import frozen

from eipack.measuring.report import Row
from eipack.pictures.wording import measured
from eipack.statistics.percentiles import NS_PER_MS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_LOG_FROM: Final = 10
_LOG_TO: Final = 50


@frozen
class Span:
    """What an axis shows, in ms."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Span | None:
        """Return the span that holds all but the last percent of each row; None without rows."""
        with_figures = measured(rows)
        if not with_figures:
            return None
        lows = [min([*row.samples_ns], default=0) / NS_PER_MS or row.p50_ms for row in with_figures]
        return cls.over(
            [low for low in lows if low is not None],
            [_reach(row) for row in with_figures],
            [row.p50_ms for row in with_figures if row.p50_ms is not None],
        )

    @classmethod
    def over(cls, lows: Sequence[float], highs: Sequence[float], middles: Sequence[float]) -> Span:
        """Return the span of values; logarithmic where they differ much.

        That is where middles differ by more than 10x, or the axis would reach to 50x of one.
        """
        low, high = min(lows), max(highs)
        far = max(middles) > _LOG_FROM * min(middles) or high > _LOG_TO * min(middles)
        if min(middles) > 0 and low > 0 and far:
            return cls(low * 0.9, high * 1.12, log=True)
        if low < 0.5 * high:
            return cls(0.0, high * 1.04 or 1.0, log=False)
        rest = 0.06 * (high - low) or 0.1 * high
        return cls(low - rest, high + rest, log=False)

    def to_line(self, ms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where latencies lie on the axis, from 0 to 1."""
        if self.log:
            part = np.log(np.maximum(ms, self.low / 100) / self.low) / np.log(self.high / self.low)
        else:
            part = (ms - self.low) / (self.high - self.low)
        return np.asarray(part, dtype=np.float64)

    def positions(self, count: int) -> NDArray[np.float64]:
        """Return evenly spread places of the axis, in ms."""
        spread = np.geomspace if self.log else np.linspace
        return np.asarray(spread(self.low, self.high, count), dtype=np.float64)


def _reach(row: Row) -> float:
    names = ("p50_ms", "p90_ms", "p95_ms", "p99_ms")
    known = [getattr(row, name) for name in names]
    known += [row.intervals[name][1] for name in names if name in row.intervals]
    return float(max(value for value in known if value is not None))


def spread_of(values: Sequence[float]) -> Span:
    """Return the span of plain values."""
    return Span.over(values, values, values)


def set_scale(axes: Axes, which: Literal["x", "y"], span: Span) -> None:
    """Give one axis its span, and ticks that read as plain figures."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    if span.log:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        decades = np.log10(span.high / span.low)
        subs = (1, 2, 5) if decades < 2.5 else (1, 3) if decades < 4 else (1,)
        axis.set_major_locator(LogLocator(subs=subs))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    (axes.set_xlim if which == "x" else axes.set_ylim)(span.low, span.high)
