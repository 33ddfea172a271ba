from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from eipack.statistics.intervals import mean_interval, percentile_interval

RUNS = 600
"""Enough to tell 95 % from 91 %; `python -m benchmarks.statistics` makes 2,000 of each."""
LEAST, MOST = 0.92, 0.975


@pytest.mark.parametrize("figure", ["mean_ms", "p50_ms", "p90_ms", "p99_ms"])
@pytest.mark.parametrize(
    "latencies",
    ["normal, 5 %", "log-normal, sigma 1", "gamma, shape 2", "1 % of outliers 10 times as long"],
)
def test_intervals_of_a_thousand_calls_cover_the_truth(
    simulations: ModuleType, latencies: str, figure: str
) -> None:
    assert LEAST <= simulations.covered(latencies, figure, 1000, RUNS) <= MOST


@pytest.mark.parametrize("figure", ["mean_ms", "p50_ms", "p90_ms"])
@pytest.mark.parametrize("latencies", ["normal, 5 %", "log-normal, sigma 1", "gamma, shape 2"])
def test_intervals_of_a_hundred_calls_cover_the_truth(
    simulations: ModuleType, latencies: str, figure: str
) -> None:
    assert LEAST <= simulations.covered(latencies, figure, 100, RUNS) <= MOST


@pytest.mark.parametrize("figure", ["mean_ms", "p50_ms", "p90_ms"])
def test_intervals_that_know_of_turns_cover_the_truth_where_turns_differ(
    simulations: ModuleType, figure: str
) -> None:
    assert LEAST <= simulations.covered("turns that differ by 1 %", figure, 1000, RUNS) <= MOST


def test_turns_that_differ_make_intervals_wider() -> None:
    generator = np.random.default_rng(0)
    samples = np.repeat(generator.normal(1, 0.01, 10), 100) + generator.normal(0, 0.001, 1000)
    for make in (mean_interval, lambda *args, **kw: percentile_interval(args[0], 50, **kw)):
        low, high = make(samples)
        below, above = make(samples, turns=[100] * 10)
        assert above - below > 5 * (high - low)


def test_the_same_samples_give_the_same_interval() -> None:
    samples = np.random.default_rng(0).lognormal(0, 1, 500)
    assert mean_interval(samples) == mean_interval(samples.tolist())
    assert percentile_interval(samples, 90) == percentile_interval(samples.tolist(), 90)


def test_more_confidence_makes_a_wider_interval() -> None:
    samples = np.random.default_rng(0).lognormal(0, 1, 500)
    for low, high, below, above in (
        (*mean_interval(samples), *mean_interval(samples, 0.99)),
        (*percentile_interval(samples, 90), *percentile_interval(samples, 90, 0.99)),
    ):
        assert below < low < high < above


def test_the_median_of_ten_lies_between_interpolated_order_statistics() -> None:
    low, high = percentile_interval(range(1, 11), 50)
    assert 2 < low < 3  # of the 2nd and the 9th it would be 97.9 %, of the 3rd and the 8th 89.1 %
    assert high == pytest.approx(11 - low)


def test_too_few_samples_have_no_upper_bound() -> None:
    assert percentile_interval(range(1, 101), 99)[1] is None
    assert percentile_interval(range(1, 401), 99)[1] is not None
    assert percentile_interval([5], 50) == mean_interval([5]) == (0.0, None)
    assert percentile_interval([], 50) == mean_interval([]) == (0.0, None)


def test_equal_samples_leave_nothing_open() -> None:
    assert mean_interval([7] * 50, turns=[10] * 5) == (7, 7)
    assert percentile_interval([7] * 50, 50, turns=[10] * 5) == (7, 7)


def test_a_mirrored_sample_has_the_mirrored_interval() -> None:
    samples = np.random.default_rng(0).lognormal(0, 1, 200)
    low, high = mean_interval(samples)
    below, above = mean_interval(100 - samples)
    assert (100 - above, 100 - below) == pytest.approx((low, high))


def test_turns_without_a_call_say_nothing() -> None:
    samples = np.random.default_rng(0).lognormal(0, 1, 100)
    turns = [20, 0, 20, 20, 0, 20, 20]
    assert mean_interval(samples, turns=turns) == mean_interval(samples, turns=[20] * 5)


@pytest.mark.parametrize("turns", [[10] * 9, [50, 60, -10], []])
def test_turns_that_are_not_those_of_the_samples_are_refused(turns: list[int]) -> None:
    with pytest.raises(ValueError, match=r"turns of .* calls were given for 100 samples"):
        mean_interval(range(100), turns=turns)
