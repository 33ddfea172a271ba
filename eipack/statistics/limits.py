"""Whether latencies keep a limit: yes, no, or how many more calls it takes to know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Final, Literal

from attrs import frozen

from eipack.statistics.binomial import cdf
from eipack.statistics.early_stopping import CONFIDENCE, discarded, fewest
from eipack.statistics.intervals import mean_interval

Verdict = Literal["pass", "fail", "insufficient"]

MOST_CALLS: Final = 10_000_000
"""What `more_calls` is where the figure lies on the limit, and no number of calls would decide."""


@frozen
class Checked:
    """A verdict; `more_calls` is how many an `insufficient` one lacks if all goes on as it did."""

    verdict: Verdict
    more_calls: int = 0


def check(
    samples_ns: Sequence[int],
    percent: float | Literal["mean"],
    limit_ns: float,
    turns: Sequence[int] | None = None,
) -> Checked:
    """Say whether a percentile, or the mean, is within a limit, with 99 % confidence.

    A percentile passes where its early-stopping estimate is within the limit; it fails where calls
    above the limit are so many that the opposite is as sure. The mean is judged by its
    interval. A verdict on a mean takes `turns` into account.
    """
    if percent == "mean":
        return _check_mean(samples_ns, limit_ns, turns)
    calls = len(samples_ns)
    above = sum(sample > limit_ns for sample in samples_ns)
    verdict = _verdict(above, calls, percent)
    if verdict != "insufficient":
        return Checked(verdict)
    return Checked(verdict, _more_calls(above, calls, percent))


def _verdict(above: int, calls: int, percent: float) -> Verdict:
    if above < discarded(calls, percent):  # the estimate, which is the t-th highest, is within
        return "pass"
    too_many = (100 - percent) / 100
    if above and 1 - cdf(above - 1, calls, too_many) < 1 - CONFIDENCE:
        return "fail"
    return "insufficient"


def _more_calls(above: int, calls: int, percent: float) -> int:
    """Return how many further calls decide, if the same share of them exceeds the limit."""
    least = max(fewest(percent) - calls, 1)
    if not calls:
        return least

    def decides(more: int) -> bool:
        total = calls + more
        return _verdict(ceil(above * total / calls), total, percent) != "insufficient"

    return _smallest(decides, least)


def _check_mean(samples_ns: Sequence[int], limit_ns: float, turns: Sequence[int] | None) -> Checked:
    low, high = mean_interval(samples_ns, 2 * CONFIDENCE - 1, turns)
    if high is not None and high <= limit_ns:
        return Checked("pass")
    if low > limit_ns:
        return Checked("fail")
    calls = len(samples_ns)
    if high is None:
        return Checked("insufficient", 2 - calls)
    mean = sum(samples_ns) / calls
    arm = high - mean if mean <= limit_ns else mean - low
    distance = abs(limit_ns - mean)
    # An interval narrows with the square root of the number of calls.
    lacking = calls * ((arm / distance) ** 2 - 1) if distance else MOST_CALLS
    return Checked("insufficient", max(1, ceil(min(lacking, MOST_CALLS))))


def _smallest(decides: Callable[[int], bool], least: int) -> int:
    """Return the smallest number from `least` on that decides, or one a little above it."""
    low, high = least - 1, least
    while not decides(high):
        if high >= MOST_CALLS:
            return MOST_CALLS
        low, high = high, min(2 * high, MOST_CALLS)
    while high - low > 1:
        middle = (low + high) // 2
        if decides(middle):
            high = middle
        else:
            low = middle
    return high
