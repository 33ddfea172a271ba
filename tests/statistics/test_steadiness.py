from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from eipack.statistics.steadiness import FEWEST, drifts, settled_after

STEADY = [
    "normal, 5 %",
    "log-normal, sigma 1",
    "1 % of outliers 10 times as long",
    "turns that differ by 1 %",
]


def skewed(calls: int, seed: int = 0) -> np.ndarray:
    return 1e6 * (0.9 + 0.1 * np.random.default_rng(seed).gamma(4, 0.25, calls))


def ints(samples: np.ndarray) -> list[int]:
    return samples.astype(int).tolist()


@pytest.mark.parametrize("latencies", STEADY)
def test_steady_latencies_are_called_unstable_in_five_percent_at_most(
    simulations: ModuleType, latencies: str
) -> None:
    assert simulations.alarms(latencies, 1000, 300) <= 0.05


@pytest.mark.slow
def test_latencies_that_resemble_their_neighbours_are_steady(simulations: ModuleType) -> None:
    assert simulations.alarms("AR(1) 0.3", 1000, 300) <= 0.05


@pytest.mark.parametrize("latencies", ["normal, 5 %", "turns that differ by 1 %"])
@pytest.mark.parametrize("shape", ["step", "late step", "trend"])
def test_a_change_of_five_percent_is_seen(
    simulations: ModuleType, latencies: str, shape: str
) -> None:
    calls = np.arange(1000)
    slope = {
        "step": np.where(calls < 500, 1, 1.05),
        "late step": np.where(calls < 750, 1.05, 1),
        "trend": np.linspace(1, 1.05, 1000),
    }[shape]
    assert simulations.alarms(latencies, 1000, 100, slope) >= 0.9


def test_a_drift_too_small_to_matter_is_none() -> None:
    samples = 1e6 * np.linspace(1, 1.015, 10_000)
    assert not drifts(ints(samples))
    assert drifts(ints(1e6 * np.linspace(1, 1.03, 10_000)))


def test_a_few_outliers_are_no_drift() -> None:
    samples = skewed(1000)
    samples[900:905] *= 50
    assert not drifts(ints(samples))


def test_too_few_calls_never_drift() -> None:
    assert not drifts(list(range(1, FEWEST)))
    assert drifts(list(range(1, FEWEST + 1)))


def test_turns_of_any_length_are_taken_together() -> None:
    samples = ints(skewed(1000) * np.linspace(1, 1.1, 1000))
    for turns in ([1] * 1000, [5] * 200, [100] * 10, [500, 500], [0, 400, 0, 600], [1, 999]):
        assert drifts(samples, turns)


def test_latencies_that_were_always_steady_have_no_warm_up() -> None:
    assert settled_after(ints(skewed(200))) == 0


@pytest.mark.parametrize("slow", [5, 20, 60])
def test_the_slow_calls_at_the_start_are_the_warm_up(slow: int) -> None:
    samples = skewed(200)
    samples[:slow] *= 8
    found = settled_after(ints(samples))
    assert found is not None
    assert slow <= found <= slow + 5


def test_calls_that_are_too_quick_at_the_start_are_warm_up_too() -> None:
    samples = skewed(200)
    samples[:30] *= 0.7
    assert settled_after(ints(samples)) == 30


def test_outliers_do_not_prolong_the_warm_up() -> None:
    samples = skewed(200)
    samples[:20] *= 8
    samples[[40, 41, 42, 70, 90, 150]] *= 30
    found = settled_after(ints(samples))
    assert found is not None
    assert 20 <= found <= 25


def test_latencies_that_still_fall_have_not_settled() -> None:
    assert settled_after(ints(skewed(200) * np.linspace(2, 1, 200))) is None


def test_a_warm_up_as_long_as_half_of_the_calls_is_not_over() -> None:
    samples = skewed(60)
    samples[:50] *= 8
    assert settled_after(ints(samples)) is None


def test_forty_calls_are_needed_to_tell_unless_they_took_long() -> None:
    quick = ints(skewed(39))
    assert settled_after(quick) is None
    assert settled_after([*quick, quick[0]]) == 0
    assert settled_after([one * 1000 for one in quick[:10]]) == 0
    assert settled_after([one * 1000 for one in quick[:9]]) is None
