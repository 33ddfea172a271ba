from __future__ import annotations

from math import inf
from types import ModuleType

import numpy as np
import pytest

from eipack.statistics.differences import ratio, ratio_of_medians


def latencies(seed: int, calls: int = 1000, scale: float = 1e6) -> list[int]:
    generator = np.random.default_rng(seed)
    return (scale * generator.lognormal(0, 0.1, calls)).astype(int).tolist()


def test_the_ratio_is_that_of_the_figures() -> None:
    base, other = latencies(0), latencies(1, scale=1.2e6)
    found = ratio_of_medians(base, other)
    assert found.value == pytest.approx(sorted(other)[499] / sorted(base)[499])
    assert found.low < found.value < found.high
    assert 1.17 < found.low < found.high < 1.23


def test_exchanging_both_inverts_the_ratio() -> None:
    base, other = latencies(0), latencies(1)
    for percent in (50, 90, "mean"):
        one, back = ratio(base, other, percent), ratio(other, base, percent)
        assert back.value == pytest.approx(1 / one.value)
        assert (back.low, back.high) == pytest.approx((1 / one.high, 1 / one.low))


@pytest.mark.parametrize("percent", [50, 90, "mean"])
def test_the_interval_covers_the_true_ratio_in_95_percent(percent: float) -> None:
    hits = 0
    for run in range(400):
        found = ratio(latencies(2 * run, 200), latencies(2 * run + 1, 200, 1.1e6), percent)
        hits += found.low <= 1.1 <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_turns_that_differ_widen_the_interval(simulations: ModuleType) -> None:
    generator = np.random.default_rng(0)
    base, other = (simulations.in_ns(simulations._in_turns(generator, 1000)) for _ in range(2))
    turns = simulations.turns_of(1000)
    plain, told = ratio_of_medians(base, other), ratio_of_medians(base, other, turns, turns)
    assert told.low < plain.low < plain.high < told.high


def test_more_confidence_widens_the_interval() -> None:
    base, other = latencies(0), latencies(1)
    plain, sure = ratio(base, other, 90), ratio(base, other, 90, confidence=0.999)
    assert sure.low < plain.low < plain.high < sure.high


def test_single_calls_have_a_ratio_and_no_bounds() -> None:
    found = ratio_of_medians([100], [150])
    assert found.value == pytest.approx(1.5)
    assert (found.low, found.high) == (0, inf)


@pytest.mark.parametrize(("base", "other"), [([], [1]), ([1], []), ([1, 0], [1]), ([1], [-1])])
def test_what_is_no_latency_is_refused(base: list[int], other: list[int]) -> None:
    with pytest.raises(ValueError, match="positive latencies on both sides"):
        ratio_of_medians(base, other)
