"""Latency against throughput, where one program was offered more and more load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from eipack.measuring.report import Row
from eipack.measuring.scenario import Scenario
from eipack.pictures.scale import set_scale, spread_of
from eipack.pictures.sheet import INSIDE, LINE, drawable, fit
from eipack.pictures.styles import INK, PAPER, series
from eipack.pictures.wording import measured, name_of, target_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT: Final = 2.7


@frozen
class Series:
    """Rows that differ in their load alone, the lightest first."""

    name: str
    rows: tuple[Row, ...]


def series_of(rows: Sequence[Row]) -> list[Series]:
    """Return what was measured under several loads."""
    groups = dict[tuple[str, ...], list[Row]]()
    for row in measured(rows):
        if row.p90_ms and _throughput(row, per_row=False):
            key = (target_of(row), row.program or "", row.method or "", row.precision)
            groups.setdefault(key, []).append(row)
    found = list[Series]()
    for group in groups.values():
        if len({row.scenario for row in group}) > 1:
            plain = evolve(group[0], scenario=Scenario())
            name = name_of(plain).replace(f" · {plain.scenario}", "")
            found.append(Series(name, tuple(sorted(group, key=_load))))
    return found


def _load(row: Row) -> tuple[str, int, float, int]:
    offered = row.scenario
    name = "" if offered.name == "single-stream" else offered.name
    return name, offered.concurrency, offered.rate_per_s or 0.0, offered.batch or 0


def _throughput(row: Row, *, per_row: bool) -> float:
    return (row.rows_per_s if per_row else row.calls_per_s) or 0.0


def height_of(found: Sequence[Series]) -> float:
    """Return the height in inches of the panel with what stands around it."""
    return HEIGHT + 0.5 + LINE * 1.06 * len(found)


def draw(axes: Axes, found: Sequence[Series]) -> None:
    """Draw a line through the loads of each series, and name each load at its point."""
    per_row = any(row.scenario.batch for one in found for row in one.rows)
    rows = [row for one in found for row in one.rows]
    for number, one in enumerate(found):
        x = [_throughput(row, per_row=per_row) for row in one.rows]
        y = [row.p90_ms or 0.0 for row in one.rows]
        look = series(number)
        axes.errorbar(
            x,
            y,
            yerr=_errors(one.rows),
            label=fit(one.name, INSIDE - 1.5, 8),
            markeredgecolor=PAPER,
            markersize=6.5,
            linewidth=1.6,
            elinewidth=1.2,
            capsize=2.5,
            **look,
        )
        for row, across, up in zip(one.rows, x, y, strict=True):
            axes.annotate(
                drawable(_short(row.scenario)),
                (across, up),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                size=7.5,
                color=INK,
            )
    span = spread_of([row.p90_ms or 0.0 for row in rows])
    set_scale(axes, "y", evolve(span, high=span.high * (1.25 if span.log else 1.08)))
    across_span = spread_of([_throughput(row, per_row=per_row) for row in rows])
    set_scale(axes, "x", evolve(across_span, high=across_span.high * 1.03))
    axes.grid()
    axes.set_axisbelow(True)
    axes.set_xlabel("rows a second" if per_row else "calls a second")
    axes.set_ylabel("p90 in ms")
    below = -0.48 / HEIGHT
    axes.legend(loc="upper left", bbox_to_anchor=(0, below), handlelength=3.2)


def _errors(rows: Sequence[Row]) -> list[list[float]]:
    low, high = list[float](), list[float]()
    for row in rows:
        value = row.p90_ms or 0.0
        bounds = row.intervals.get("p90_ms", (value, value))
        low.append(max(value - bounds[0], 0.0))
        high.append(max((bounds[1] or value) - value, 0.0))
    return [low, high]


def _short(offered: Scenario) -> str:
    """Name a load at its point: `x4`, `50/s`, `batch 8`."""
    load = {
        "closed-loop": f"x{offered.concurrency}",
        "open-loop": f"{offered.rate_per_s:g}/s" if offered.rate_per_s else "",
    }.get(offered.name, "")
    batch = f"batch {offered.batch}" if offered.batch else ""
    return " ".join(part for part in (load, batch) if part) or "x1"
