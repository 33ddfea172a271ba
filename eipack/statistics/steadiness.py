"""Whether latencies have settled after a start, and whether they drift afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[Any, np.dtype[np.float64]]

FEWEST: Final = 80
"""With fewer samples, no drift can be told from chance."""

_BLOCK: Final = 5
_FEWEST_CALLS: Final = 40
_FEWEST_SLOW_CALLS, _LONG_NS = 10, 5e9
_TOLERANCE: Final = 0.02
_SPREADS: Final = 4
_BLOCKS, _FEWEST_BLOCKS, _SMALLEST_BLOCK = 20, 8, 10
_SMALLEST_DRIFT: Final = 0.01
_FALSE_ALARMS: Final = 0.02
_SHUFFLES: Final = 10_000


def settled_after(samples_ns: Sequence[int]) -> int | None:
    """Return how many calls at the start are warm-up; None if it is not over by the end.

    The later half has to keep one level, and the warm-up ends with the last block of the earlier
    half that misses it by more than noise and 2 %. Blocks are medians of up to five calls, and one
    block alone counts for nothing, so that outliers do not prolong the warm-up. Less than 40 calls
    are too few to tell, unless they took 5 s and are 10.
    """
    import numpy as np

    calls = len(samples_ns)
    fewest = _FEWEST_SLOW_CALLS if sum(samples_ns) >= _LONG_NS else _FEWEST_CALLS
    if calls < fewest:
        return None
    size = min(_BLOCK, calls // _FEWEST_SLOW_CALLS)
    count = calls // size
    values = np.asarray(samples_ns, np.float64)[calls - count * size :]
    blocks = np.median(values.reshape(count, size), axis=1)
    later = blocks[count // 2 :]
    level = float(np.median(later))
    # Differences of neighbours, since a trend must not pass for noise.
    noise = 1.4826 / sqrt(2) * float(np.median(np.abs(np.diff(later))))
    allowed = max(_SPREADS * noise, _TOLERANCE * level)
    third = len(later) // 3
    fall = abs(float(np.median(later[:third])) - float(np.median(later[-third:])))
    if fall > max(_SPREADS * noise / max(1, sqrt(third) / 2), _TOLERANCE * level):
        return None
    off = np.abs(blocks[: count // 2] - level) > allowed
    off[1:] &= off[:-1]  # a block counts if the one before it is off too
    last = int(np.flatnonzero(off)[-1]) + 1 if off.any() else 0
    return calls - count * size + last * size if last else 0


def drifts(samples_ns: Sequence[int], turns: Sequence[int] | None = None) -> bool:
    """Say whether latencies drift, rise, fall or step during the run, by 1 % or more.

    Successive blocks (of whole `turns`, where those are given) are ranked by their interquartile
    means. Both the largest scaled sum of ranks from the start, for a step (Pettitt, 1979), and the
    correlation of ranks with time, for a trend (Spearman), are held to what random orders give.
    """
    import numpy as np

    values = np.asarray(samples_ns, np.float64)
    if len(values) < FEWEST:
        return False
    parts = np.split(values, _block_bounds(len(values), turns))
    levels = np.array([_interquartile_mean(part) for part in parts])
    ranks = _ranks(levels)[None, :]
    step, trend = _largest_step(ranks)[0], _trend(ranks)[0]
    largest_step, largest_trend = _by_chance(len(levels))
    if step <= largest_step and trend <= largest_trend:
        return False
    at = int(_scaled_sums(ranks)[0].argmax()) + 1
    before, after = float(np.median(levels[:at])), float(np.median(levels[at:]))
    return abs(after / before - 1) >= _SMALLEST_DRIFT


def _interquartile_mean(values: Floats) -> float:
    import numpy as np

    cut = len(values) // 4
    return float(np.sort(values)[cut : len(values) - cut].mean())


def _block_bounds(calls: int, turns: Sequence[int] | None) -> list[int]:
    """Return where blocks begin, the first one's 0 left out; of whole turns or equal length."""
    ends = list(accumulate(turn for turn in turns or () if turn))
    most = min(_BLOCKS, calls // _SMALLEST_BLOCK)
    if len(ends) < _FEWEST_BLOCKS:
        return [calls * index // most for index in range(1, most)]
    together = ceil(len(ends) / most)
    return ends[together - 1 : -1 : together]


def _ranks(values: Floats) -> Floats:
    """Return ranks around 0; equal values share theirs."""
    import numpy as np

    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared = np.cumsum(counts) - (counts + 1) / 2
    ranks: Floats = shared[inverse] - (len(values) - 1) / 2
    return ranks


def _scaled_sums(ranks: Floats) -> Floats:
    """Return, for each row of ranks, the sums from the start, over their standard deviations."""
    import numpy as np

    count = ranks.shape[1]
    after = np.arange(1, count)
    sums: Floats = np.abs(np.cumsum(ranks, axis=1)[:, :-1]) / np.sqrt(after * (count - after))
    return sums


def _largest_step(ranks: Floats) -> Floats:
    largest: Floats = _scaled_sums(ranks).max(axis=1)
    return largest


def _trend(ranks: Floats) -> Floats:
    import numpy as np

    count = ranks.shape[1]
    trend: Floats = np.abs(ranks @ (np.arange(count) - (count - 1) / 2))
    return trend


@lru_cache(maxsize=64)
def _by_chance(count: int) -> tuple[float, float]:
    """Return what the largest step and the trend of `count` blocks in random order stay below.

    Each is exceeded in 2 % of all orders, so one of them in less than 4 %.
    """
    import numpy as np

    generator = np.random.default_rng(count)
    places = np.argsort(generator.random((_SHUFFLES, count)), axis=1)
    orders = places.astype(np.float64) - (count - 1) / 2
    rank = ceil(_SHUFFLES * (1 - _FALSE_ALARMS)) - 1
    step, trend = (sorted(found)[rank] for found in (_largest_step(orders), _trend(orders)))
    return float(step), float(trend)
