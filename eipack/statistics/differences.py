"""How much slower one set of latencies is than another, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, hypot, inf, log
from typing import Literal

from attrs import frozen

from eipack.statistics.intervals import CONFIDENCE, mean_interval, percentile_interval
from eipack.statistics.percentiles import NS_PER_MS, mean_ms, percentile_ms

Turns = Sequence[int] | None


@frozen
class Ratio:
    """One figure divided by another, with the bounds of its confidence interval.

    `low` is 0 and `high` infinite where there are too few calls to have them.
    """

    value: float
    low: float
    high: float


def ratio_of_medians(
    base: Sequence[int],
    other: Sequence[int],
    base_turns: Turns = None,
    other_turns: Turns = None,
    confidence: float = CONFIDENCE,
) -> Ratio:
    """Return the median of `other` divided by that of `base`; `turns` are the turns' lengths."""
    return ratio(base, other, 50, base_turns, other_turns, confidence=confidence)


def ratio(
    base: Sequence[int],
    other: Sequence[int],
    percent: float | Literal["mean"],
    base_turns: Turns = None,
    other_turns: Turns = None,
    *,
    confidence: float = CONFIDENCE,
) -> Ratio:
    """Return a percentile, or the mean, of `other` divided by that of `base`.

    The interval is made of both figures' own, on the scale of logarithms, as Zou and Donner (2008)
    have it (MOVER), so it is as good as those without assuming a distribution.

    Raises:
        ValueError: There are no samples, or one is not positive.
    """
    if not base or not other or min(*base, *other) <= 0:
        raise ValueError("a ratio needs positive latencies on both sides")
    first, below_first, above_first = _with_arms(base, percent, base_turns, confidence)
    second, below, above = _with_arms(other, percent, other_turns, confidence)
    value = second / first
    return Ratio(
        value=value,
        low=value * exp(-hypot(below, above_first)),
        high=value * exp(hypot(above, below_first)),
    )


def _with_arms(
    samples: Sequence[int], percent: float | Literal["mean"], turns: Turns, confidence: float
) -> tuple[float, float, float]:
    """Return a figure, and how far its interval reaches below and above it, in logarithms."""
    if percent == "mean":
        figure = mean_ms(samples) * NS_PER_MS
        low, high = mean_interval(samples, confidence, turns)
    else:
        figure = percentile_ms(samples, percent) * NS_PER_MS
        low, high = percentile_interval(samples, percent, confidence, turns)
    below = log(figure / low) if low > 0 else inf
    above = inf if high is None else log(high / figure)
    return figure, max(below, 0.0), max(above, 0.0)
