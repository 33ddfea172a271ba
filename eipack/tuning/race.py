"""The race: candidates take turns, and what is clearly slower drops out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor, sqrt
from time import monotonic
from typing import Final

from attrs import define, evolve, field

from eipack.children import Child, Lost
from eipack.parity.precision import ALLOWED
from eipack.statistics.percentiles import NS_PER_MS, percentile_ms
from eipack.tuning.record import Row

TURN_S: Final = 0.25
FEWEST_CALLS: Final = 20
"""What every finalist is measured with, unless that takes half as long again as the budget."""
_ENOUGH_CALLS: Final = 100
_ENOUGH_ROUNDS: Final = 8
_NARROW: Final = 0.02
"""Where all medians are known as well as this, more calls decide nothing."""
_CLEARLY: Final = (2.0, 1.5, 1.15)
"""How much slower drops out after the first round, the second and each that follows.

The calls of one turn may all have met the same disturbance.
"""
_Z: Final = 2.576
_KEPT_SAMPLES: Final = 500


@define(eq=False)
class Lane:
    """One candidate on one batch: its process, its row so far, and the calls that were timed."""

    child: Child
    row: Row
    trial: int = 0
    limit_s: float = 60.0
    samples: list[int] = field(factory=list)
    running: bool = True

    def turn(self, seconds: float) -> list[int]:
        """Time calls; a candidate that fails at it leaves the race."""
        try:
            answer = self.child.call("time", self.limit_s, trial=self.trial, seconds=seconds)
        except Lost as lost:
            self.leave(evolve(self.row, verdict=lost.verdict, reason=lost.reason))
            return []
        found: list[int] = answer["samples_ns"]
        return found

    def leave(self, row: Row) -> None:
        """Take no further turns."""
        self.row, self.running = row, False

    @property
    def interval(self) -> tuple[float, float]:
        """The confidence interval of the median, in ns for each row of the batch."""
        low, high = median_interval(self.samples)
        return low / self.row.batch, high / self.row.batch

    def result(self) -> Row:
        """Return the row with its figures."""
        row = self.row
        if row.verdict not in ("measured", "slower") or not self.samples:
            return row
        p50, (low, high) = percentile_ms(self.samples, 50), median_interval(self.samples)
        return evolve(
            row,
            calls=len(self.samples),
            p50_ms=p50,
            low_ms=low / NS_PER_MS,
            high_ms=high / NS_PER_MS,
            rows_per_s=1e3 * row.batch / p50,
            samples_ns=tuple(self.samples[-_KEPT_SAMPLES:]),
        )


def median_interval(samples: Sequence[int]) -> tuple[int, int]:
    """Return the samples between which the median lies with a confidence of 99 %.

    The ranks are those of the binomial distribution, taken as normal; of few samples the interval
    is all of them.
    """
    ordered, count = sorted(samples), len(samples)
    outside = max(0, floor((count - _Z * sqrt(count)) / 2))
    return ordered[outside], ordered[count - 1 - outside]


def may_replace(row: Row, other: Row) -> bool:
    """Tell whether a row is no less precise than another, and so may stand in for it."""
    return ALLOWED.get(row.precision, 0.0) <= ALLOWED.get(other.precision, 0.0)


def race(lanes: Sequence[Lane], seconds: float, tell: Callable[[float], None]) -> None:
    """Let the lanes take turns until the time is used or more calls would decide nothing.

    Who begins a round changes from one to the next. After each round what is clearly slower than
    something as precise drops out, and its process ends; plain PyTorch at its best
    never does.
    """
    began, rounds = monotonic(), 0
    for lane in lanes:
        if lane.running:
            lane.samples.clear()  # of the first look, which warmed up
    while running := [lane for lane in lanes if lane.running]:
        start = rounds % len(running)
        for lane in (*running[start:], *running[:start]):
            lane.samples += lane.turn(TURN_S)
            tell(monotonic() - began)
        drop(lanes, _CLEARLY[min(rounds, len(_CLEARLY) - 1)])
        end_idle(lanes)
        rounds += 1
        if _is_over([lane for lane in lanes if lane.running], monotonic() - began, seconds, rounds):
            return


def drop(lanes: Sequence[Lane], clearly: float) -> None:
    """Leave out what is clearly slower than something that is as precise."""
    running = [lane for lane in lanes if lane.running and lane.samples]
    plain = [lane for lane in running if lane.row.plain]
    kept = min(plain, key=lambda lane: lane.interval[1], default=None)
    for lane in running:
        rivals = [one.interval[1] for one in running if may_replace(one.row, lane.row)]
        if lane is not kept and lane.interval[0] > clearly * min(rivals):
            lane.leave(evolve(lane.row, verdict="slower"))


def end_idle(lanes: Sequence[Lane]) -> None:
    """End the processes in which nothing runs any more."""
    busy = {id(lane.child) for lane in lanes if lane.running}
    for lane in lanes:
        if id(lane.child) not in busy:
            lane.child.end()


def _is_over(lanes: Sequence[Lane], spent: float, seconds: float, rounds: int) -> bool:
    fewest = min((len(lane.samples) for lane in lanes), default=0)
    if spent >= seconds:
        return fewest >= FEWEST_CALLS or spent >= 1.5 * seconds
    if len(lanes) == 1:
        return fewest >= FEWEST_CALLS
    return fewest >= _ENOUGH_CALLS and rounds >= _ENOUGH_ROUNDS and all(map(_is_known, lanes))


def _is_known(lane: Lane) -> bool:
    low, high = lane.interval
    return high - low <= _NARROW * (low + high) / 2
