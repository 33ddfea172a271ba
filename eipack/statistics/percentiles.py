"""Percentiles and means of latencies, as every report of eipack states them."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from statistics import fmean
from typing import Final

NS_PER_MS: Final = 1e6


def percentile_ms(samples_ns: Sequence[int], percent: float) -> float:
    """Return the nearest-rank percentile: the smallest sample that `percent` % do not exceed.

    It is always a latency that occurred; nothing is interpolated.
    """
    rank = ceil(round(len(samples_ns) * percent / 100, 6))  # 99.9 % of 1,000 is 999, not more
    return sorted(samples_ns)[rank - 1] / NS_PER_MS


def mean_ms(samples_ns: Sequence[int]) -> float:
    """Return the mean of samples in ns as ms."""
    return fmean(samples_ns) / NS_PER_MS
