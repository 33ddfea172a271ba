"""Taking turns: one row is measured at a time, and each again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from eipack.measuring.lane import Lane
from eipack.measuring.plan import Plan

Progress = Callable[[int, int], None]

NARROW: Final = 0.05
"""Where the 95 % interval of every p90 is narrower than this part of it, all rows are stable."""
_FEWEST: Final = 100
_GROWTH: Final = 1.1
"""Intervals are looked at again when there are so many times as many calls."""


def race(lanes: Sequence[Lane], plan: Plan, progress: Progress) -> None:
    """Let all warm up, and then take turns until each has measured what it was asked for.

    Next is who has done the least of its own measuring, so that all are spread over the whole run,
    however long their turns. Where several have done the same, another one of them begins each
    round.
    """
    for lane in lanes:
        if lane.failure is None:
            lane.settle(plan)
    stable = _Stable(plan)
    rounds, done = -1, -1.0
    while waiting := [lane for lane in lanes if lane.failure is None and lane.share < 1]:
        least = min(lane.share for lane in waiting)
        if least > done:
            rounds, done = rounds + 1, least
            if stable.all(lanes):
                return
        start = rounds % len(lanes)
        order = (*lanes[start:], *lanes[:start])
        lane = next(one for one in order if one in waiting and one.share == least)
        lane.take_turn(plan, shared=len(lanes) > 1)
        progress(*_progress(lanes, plan))


def _progress(lanes: Sequence[Lane], plan: Plan) -> tuple[int, int]:
    """Tell how many calls, or how many ms, of all are done."""
    running = [lane for lane in lanes if lane.failure is None]
    if plan.calls is not None:
        return sum(len(lane.samples_ns) for lane in running), plan.calls * len(running)
    each_ms = (plan.duration_s or 0.0) * 1e3
    return round(sum(lane.share * each_ms for lane in running)), round(each_ms * len(running))


class _Stable:
    """Whether more calls would change nothing, which is looked at now and then."""

    def __init__(self, plan: Plan) -> None:
        self._asked = plan.until_stable
        self._next: dict[int, float] = {}

    def all(self, lanes: Sequence[Lane]) -> bool:
        """Tell whether every row that runs is known well enough."""
        running = [lane for lane in lanes if lane.failure is None]
        if not self._asked or not running:
            return False
        if any(len(lane.samples_ns) < self._next.get(id(lane), _FEWEST) for lane in running):
            return False
        self._next = {id(lane): len(lane.samples_ns) * _GROWTH for lane in running}
        return all(is_known(lane.samples_ns, lane.turns) for lane in running)


def is_known(samples_ns: Sequence[int], turns: Sequence[int]) -> bool:
    """Tell whether the interval of a row's p90 is narrow enough."""
    from eipack.statistics.intervals import percentile_interval
    from eipack.statistics.percentiles import NS_PER_MS, percentile_ms

    low, high = percentile_interval(samples_ns, 90, turns=turns)
    p90_ns = percentile_ms(samples_ns, 90) * NS_PER_MS
    return high is not None and high - low < NARROW * p90_ns
