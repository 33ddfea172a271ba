"""MLPerf's early stopping: a percentile that is stated too high rather than too low.

The rule of LoadGen (`early_stopping.cc` and `results.cc` of mlperf/inference): of n latencies the
t-th highest is reported, t being the largest number for which at most t calls above the true
percentile would be seen with a probability below 1 - confidence. LoadGen's confidence is 0.99.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from eipack.statistics.binomial import cdf

CONFIDENCE: Final = 0.99


def estimate(samples: Sequence[int], percent: float, confidence: float = CONFIDENCE) -> int | None:
    """Return the latency that the percentile is below with this confidence, in samples' units.

    None where there are fewer than `fewest(percent)` samples.
    """
    above = discarded(len(samples), percent, confidence)
    return sorted(samples)[-above] if above else None


@lru_cache(maxsize=1024)
def fewest(percent: float, confidence: float = CONFIDENCE) -> int:
    """Return how many samples an estimate needs at least: 64 for P90, 662 for P99."""
    low, high = 1, 2
    while not _allowed(1, high, percent, confidence):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if _allowed(1, middle, percent, confidence):
            high = middle
        else:
            low = middle
    return high


@lru_cache(maxsize=1 << 14)
def discarded(calls: int, percent: float, confidence: float = CONFIDENCE) -> int:
    """Return t, the number of highest latencies of which the estimate is the lowest; 0: too few."""
    low, high = 0, calls + 1
    while high - low > 1:
        middle = (low + high) // 2
        if _allowed(middle, calls, percent, confidence):
            low = middle
        else:
            high = middle
    return low


def _allowed(above: int, calls: int, percent: float, confidence: float) -> bool:
    return cdf(above, calls, (100 - percent) / 100) < 1 - confidence
