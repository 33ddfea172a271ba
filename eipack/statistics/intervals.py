"""Confidence intervals of a mean and of percentiles that assume no distribution.

A percentile's is made of order statistics, interpolated as Nyblom (1992) has it; a mean's is
Student's, corrected for skewness as Johnson (1978) and Hall (1992) have it. Where the samples were
made in turns, both are widened by how much the turns differ (docs/statistics.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import cbrt, sqrt
from typing import TYPE_CHECKING, Any, Final

from eipack.statistics.binomial import cdf, student_quantile
from eipack.statistics.turns import widening

if TYPE_CHECKING:
    import numpy as np

    Samples = Sequence[float] | np.ndarray[Any, np.dtype[Any]]
    Floats = np.ndarray[Any, np.dtype[np.float64]]

Interval = tuple[float, float | None]
"""Both bounds; the lower is 0 and the upper None where there are too few samples to have one."""

CONFIDENCE: Final = 0.95


def mean_interval(
    samples: Samples, confidence: float = CONFIDENCE, turns: Sequence[int] | None = None
) -> Interval:
    """Return the interval of the mean of positive samples, in their units.

    `turns` are the lengths of the blocks in which the samples were made, in their order; without
    them, samples count as independent.
    """
    import numpy as np

    values = np.asarray(samples, np.float64)
    if len(values) < 2:
        return 0.0, None
    mean = float(values.mean())
    below, above = _arms_of_mean(values - mean, confidence)
    wider = widening(values - mean, turns, confidence)
    return max(mean - wider * below, 0.0), mean + wider * above


def _arms_of_mean(residuals: Floats, confidence: float) -> tuple[float, float]:
    """Return how far the interval reaches below and above the mean.

    Towards the short tail it ends where Hall's cubic transformation of Student's t has it, towards
    the long one where Johnson's quadratic one has it. There the skewness is raised, since that of
    a small sample falls short of its distribution's; simulations gave by how much.
    """
    import numpy as np

    count = len(residuals)
    variance = float(np.square(residuals).mean())
    if variance == 0:
        return 0.0, 0.0
    deviation = sqrt(variance * count / (count - 1))
    skewness = float((residuals**3).mean()) / variance**1.5
    size = abs(skewness)
    quantile = student_quantile(count - 1, (1 + confidence) / 2)
    plain = quantile / sqrt(count)
    short = plain
    if size > 1e-6:
        short = (cbrt(1 + size * (plain - size / (6 * count))) - 1) * 3 / size
    raised = size * (1 + 5 / sqrt(count))
    long = plain + raised * (1 + 2 * quantile**2) / (6 * count)
    arms = deviation * short, deviation * long
    return arms if skewness > 0 else arms[::-1]


def percentile_interval(
    samples: Samples,
    percent: float,
    confidence: float = CONFIDENCE,
    turns: Sequence[int] | None = None,
) -> Interval:
    """Return the interval of a percentile of positive samples, as `mean_interval` does."""
    import numpy as np

    values = np.asarray(samples, np.float64)
    if not len(values):
        return 0.0, None
    ordered = np.sort(values)
    low, high = fractional_ranks(len(ordered), percent, confidence)
    if turns is not None:
        centre = len(ordered) * percent / 100
        exceeds = (values > np.quantile(ordered, percent / 100)).astype(np.float64)
        wider = widening(exceeds - exceeds.mean(), turns, confidence)
        low = None if low is None else centre - wider * (centre - low)
        high = None if high is None else centre + wider * (high - centre)
    lower, upper = _at(ordered, low), _at(ordered, high)
    return 0.0 if lower is None else lower, upper


@lru_cache(maxsize=4096)
def fractional_ranks(
    count: int, percent: float, confidence: float
) -> tuple[float | None, float | None]:
    """Return the ranks, counted from 1, between which the percentile lies with `confidence`.

    A fractional rank stands between two order statistics. None where no order statistic is low,
    or high, enough.
    """
    tail = (1 - confidence) / 2
    return _rank(count, percent / 100, tail), _rank(count, percent / 100, 1 - tail)


def _rank(count: int, share: float, probability: float) -> float | None:
    """Return the rank that exceeds the quantile of `share` with `probability`.

    The k-th order statistic exceeds it with probability Bin(k - 1; count, share); between two of
    them this interpolates as Nyblom has it, which is good for any smooth distribution.
    """
    low, high = 0, count + 1  # the ranks of which one exceeds it too rarely, one often enough
    while high - low > 1:
        middle = (low + high) // 2
        if cdf(middle - 1, count, share) <= probability:
            low = middle
        else:
            high = middle
    if low == 0 or high == count + 1:
        return None
    under, over = cdf(low - 1, count, share), cdf(low, count, share)
    part = (probability - under) / (over - under)
    up, down = (count - low) * share * part, low * (1 - share) * (1 - part)
    return low + up / (up + down)


def _at(ordered: Floats, rank: float | None) -> float | None:
    if rank is None or not 1 <= rank <= len(ordered):
        return None
    below = int(rank)
    above = min(below + 1, len(ordered))
    part = rank - below
    return float((1 - part) * ordered[below - 1] + part * ordered[above - 1])
