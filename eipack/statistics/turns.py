"""What it means for an interval that samples were made in turns.

Samples of one turn share what the machine did meanwhile, so they tell less than independent ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any, Final

from eipack.statistics.binomial import student_quantile

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[Any, np.dtype[np.float64]]

FEWEST: Final = 5
"""Fewer turns say too little about how much turns differ; samples then count as independent."""


def widening(residuals: Floats, turns: Sequence[int] | None, confidence: float) -> float:
    """Return by what factor the turns widen an interval that took samples for independent.

    The factor is the ratio of two standard errors of the mean of `residuals` (whose mean is 0),
    by turns and by samples, times the ratio of Student's quantiles for their degrees of freedom.
    It may be below 1: intervals by turns are right on the average, not one by one.

    Raises:
        ValueError: The turns do not add up to the samples.
    """
    import numpy as np

    if turns is None:
        return 1.0
    lengths = [turn for turn in turns if turn]
    if sum(lengths) != len(residuals) or any(length < 0 for length in lengths):
        raise ValueError(f"turns of {sum(turns)} calls were given for {len(residuals)} samples")
    count = len(lengths)
    own = float(np.square(residuals).sum())
    if count < FEWEST or own == 0:
        return 1.0
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    sums = np.add.reduceat(residuals, starts)
    between = float(np.square(sums).sum()) * count / (count - 1)
    upper = (1 + confidence) / 2
    by_turns, by_samples = (
        student_quantile(freedom - 1, upper) for freedom in (count, len(residuals))
    )
    return sqrt(between / own) * by_turns / by_samples
