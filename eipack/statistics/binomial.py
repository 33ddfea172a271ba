"""The binomial distribution and Student's, as scipy has them, imported when first needed."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=1 << 16)
def cdf(successes: int, trials: int, chance: float) -> float:
    """Return the probability of at most `successes` in `trials` of `chance` each."""
    from scipy.special import bdtr

    if successes < 0:
        return 0.0
    return 1.0 if successes >= trials else float(bdtr(successes, trials, chance))


@lru_cache(maxsize=1 << 12)
def student_quantile(freedom: float, probability: float) -> float:
    """Return what a value of Student's t with `freedom` degrees stays below in `probability`."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))
