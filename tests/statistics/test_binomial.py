from __future__ import annotations

from math import comb, sqrt
from statistics import NormalDist

import pytest

from eipack.statistics.binomial import cdf, student_quantile


def summed(successes: int, trials: int, chance: float) -> float:
    return sum(
        comb(trials, one) * chance**one * (1 - chance) ** (trials - one)
        for one in range(successes + 1)
    )


@pytest.mark.parametrize("chance", [0.01, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("trials", [1, 7, 64, 300])
def test_the_distribution_is_the_sum_of_its_terms(trials: int, chance: float) -> None:
    for successes in range(-1, trials + 1, max(trials // 20, 1)):
        expected = summed(successes, trials, chance)
        assert cdf(successes, trials, chance) == pytest.approx(expected, rel=1e-9, abs=1e-14)


def test_ten_million_trials_are_near_the_normal_distribution() -> None:
    trials, chance = 10_000_000, 0.1
    deviation = sqrt(trials * chance * (1 - chance))
    for distance in (-2.0, 0.5, 3.0):
        successes = round(trials * chance + distance * deviation)
        expected = NormalDist(trials * chance, deviation).cdf(successes + 0.5)
        assert cdf(successes, trials, chance) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("freedom", "probability", "quantile"),
    [(1, 0.975, 12.7062047), (9, 0.975, 2.2621572), (9, 0.995, 3.2498355), (99, 0.95, 1.6603912)],
)
def test_students_quantiles_are_those_of_the_tables(
    freedom: int, probability: float, quantile: float
) -> None:
    assert student_quantile(freedom, probability) == pytest.approx(quantile, rel=1e-7)
    assert student_quantile(freedom, 1 - probability) == pytest.approx(-quantile, rel=1e-7)


def test_student_is_normal_with_many_degrees_of_freedom() -> None:
    assert student_quantile(1e7, 0.975) == pytest.approx(NormalDist().inv_cdf(0.975), rel=1e-6)
