"""Bars of cost, hatched where a choice does not qualify, and the line of latencies over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from eipack.advisor.ranking import cost_by
from eipack.pictures.answer import (
    MEANING,
    best_of,
    figure_of,
    qualifies,
    short,
    unsure,
)
from eipack.pictures.scale import set_scale, spread_of
from eipack.pictures.styles import GRID, INK, KINDS, MUTED, PAPER, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from eipack.advisor.advice import Advice, Choice
    from eipack.measuring.report import Interval

LETTERS: Final[Mapping[str, str]] = {"accelerator": "A", "gpu": "G", "cpu": "C"}
_WIDE: Final = 0.74
_MOST: Final = 0.15  # of the panel's width: a lone bar is no wall
_FAILS: Final = "/////"
_UNSURE: Final = "-----"


def draw(axes: Axes, advice: Advice) -> None:
    """Draw costs on the left axis and latencies on a right one."""
    axes.set_xlim(-0.5, max(len(advice.choices), 1) - 0.5)
    axes.set_xticks([])
    _mark_best(axes, advice)
    _costs(axes, advice)
    _border(axes, advice.choices)
    over = axes.twinx()
    _latencies(over, advice)


def _hatch(choice: Choice) -> tuple[str, str]:
    """Return a choice's hatch, and what that says."""
    if qualifies(choice):
        return "", "qualifies"
    return (_UNSURE, "too few calls to tell") if unsure(choice) else (_FAILS, "does not qualify")


def _mark_best(axes: Axes, advice: Advice) -> None:
    best = best_of(advice)
    if best is not None:
        axes.axvspan(best - 0.5, best + 0.5, color=GRID, alpha=0.55, linewidth=0, zorder=0)


def _costs(axes: Axes, advice: Advice) -> None:
    top, wide = 0.0, min(_WIDE, _MOST * len(advice.choices))
    for x, choice in enumerate(advice.choices):
        cost = cost_by(choice, advice.by)
        if cost is None:
            continue
        hatch, says = _hatch(choice)
        look: dict[str, Any] = {"color": KINDS[choice.kind][0], "edgecolor": PAPER, "linewidth": 0}
        (bar,) = axes.bar(x, cost.usd, wide, hatch=hatch, zorder=2, **look)
        bar.set_gid(f"bar-{x}-{choice.kind}-{says.replace(' ', '-')}")
        top = max(top, cost.usd, cost.high or 0.0)
        if cost.low is not None:
            _whisker(axes, x, cost.usd, (cost.low, cost.high))
    axes.set_ylim(0, top * 1.1 or 1)
    axes.set_ylabel(MEANING[advice.by][0])
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _whisker(axes: Axes, x: float, value: float, bounds: Interval, colour: str = INK) -> None:
    """Draw an interval that is seen on a bar and beside it; an open one ends in an arrowhead."""
    low, high = bounds
    error = [[max(value - low, 0.0)], [max((high or value) - value, 0.0)]]
    for shade, wide in ((PAPER, 3.2), (colour, 1.2)):
        ends: dict[str, Any] = {"elinewidth": wide, "capsize": 3, "capthick": wide, "zorder": 3}
        axes.errorbar(x, value, error, color=shade, fmt="none", **ends)
    if high is None:
        axes.plot([x], [value], "^", color=colour, markersize=5, markeredgecolor=PAPER, zorder=3)


def _border(axes: Axes, choices: Sequence[Choice]) -> None:
    """Draw where the choices that qualify end, if they come first and others follow."""
    good = [qualifies(choice) for choice in choices]
    first = good.index(False) if False in good else 0
    if not first or any(good[first:]):
        return
    axes.axvline(first - 0.5, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    style: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axes.annotate(
        "do not qualify →" if first < len(choices) - 2 else "→",
        (first - 0.5, 1),
        xytext=(4, -2),
        va="top",
        size=7.5,
        color=MUTED,
        **style,
    )


def _latencies(axes: Axes, advice: Advice) -> None:
    name = figure_of(advice)
    limit = advice.limits.get(name)
    points = [
        (x, value, choice.intervals.get(name))
        for x, choice in enumerate(advice.choices)
        if (value := choice.latencies.get(name)) is not None
    ]
    highs = [max(value, (bounds and bounds[1]) or value) for _, value, bounds in points]
    shown = [value for _, value, _ in points] + highs + ([limit] if limit else [])
    axes.spines["right"].set_visible(False)
    if not shown:
        axes.set_yticks([])
        return
    span = spread_of(shown)
    set_scale(axes, "y", span if span.log else spread_of([0.0, max(shown) * 1.06]))
    axes.set_ylabel(f"{short(name)} in ms" + (", logarithmic" if span.log else ""), color=VERMILION)
    axes.tick_params(axis="y", colors=VERMILION)
    for x, value, bounds in points:
        if bounds is not None:
            _whisker(axes, x, value, bounds, VERMILION)
    xs, ys = [x for x, _, _ in points], [value for _, value, _ in points]
    axes.plot(xs, ys, color=PAPER, linewidth=3.4, zorder=4)
    axes.plot(xs, ys, color=VERMILION, linewidth=1.5, zorder=4, gid=f"line-{name}")
    faces = [PAPER if limit is not None and y >= limit else VERMILION for y in ys]
    axes.scatter(xs, ys, s=30, c=faces, edgecolors=VERMILION, linewidths=1.2, zorder=5)
    if limit is not None:
        _limit(axes, name, limit)


def _limit(axes: Axes, name: str, limit: float) -> None:
    axes.axhline(
        limit, color=INK, linewidth=1.1, linestyle=(0, (6, 3)), zorder=3.5, gid=f"limit-{name}"
    )
    box = {"boxstyle": "round,pad=0.2", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.85}
    axes.annotate(
        f"limit: {short(name)} < {limit:g} ms",
        (0, limit),
        xycoords=("axes fraction", "data"),
        xytext=(5, 4),
        textcoords="offset points",
        va="bottom",
        size=8.5,
        weight="bold",
        bbox=box,
        zorder=6,
    )


def kind_handles(advice: Advice) -> list[Any]:
    """Return the entries of the legend that tell the kinds."""
    from matplotlib.patches import Patch

    kinds = [kind for kind in LETTERS if any(one.kind == kind for one in advice.choices)]
    return [
        Patch(color=KINDS[kind][0], label=f"{LETTERS[kind]}: {KINDS[kind][1]}") for kind in kinds
    ]


def mark_handles(advice: Advice) -> list[Any]:
    """Return the entries for the line, the hatches and the intervals, where there are any."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    latency = figure_of(advice)
    label = short(latency) + (", open above the limit" if latency in advice.limits else "")
    handles: list[Any] = [Line2D([], [], color=VERMILION, marker="o", markersize=5.5, label=label)]
    hatches = dict.fromkeys(_hatch(choice) for choice in advice.choices)
    handles += [
        Patch(facecolor=MUTED, edgecolor=PAPER, linewidth=0, hatch=hatch, label=says)
        for hatch, says in hatches
        if hatch
    ]
    costs = [cost_by(choice, advice.by) for choice in advice.choices]
    if any(cost is not None and cost.low is not None for cost in costs):
        handles.append(Line2D([], [], color=INK, marker="|", label="95 % interval"))
    return handles
