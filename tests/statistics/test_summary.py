from __future__ import annotations

import numpy as np
import pytest

from eipack.statistics.early_stopping import estimate
from eipack.statistics.intervals import mean_interval, percentile_interval
from eipack.statistics.percentiles import mean_ms, percentile_ms
from eipack.statistics.summary import summarize

FIGURES = {"mean_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms"}


def latencies(calls: int) -> list[int]:
    generator = np.random.default_rng(0)
    return (1e6 * generator.lognormal(0, 0.1, calls)).astype(int).tolist()


def test_figures_are_those_of_the_samples_in_ms() -> None:
    samples = latencies(1000)
    found = summarize(samples)
    assert found.mean_ms == mean_ms(samples)
    assert found.p90_ms == sorted(samples)[899] / 1e6 == percentile_ms(samples, 90)
    assert found.p99_ms == sorted(samples)[989] / 1e6
    assert found.stable is True


def test_every_figure_has_an_interval_and_every_percentile_an_estimate() -> None:
    samples, turns = latencies(1000), [100] * 10
    found = summarize(samples, turns)
    assert set(found.intervals) == FIGURES
    low, high = percentile_interval(samples, 90, turns=turns)
    assert found.intervals["p90_ms"] == (low / 1e6, (high or 0) / 1e6)
    low, high = mean_interval(samples, turns=turns)
    assert found.intervals["mean_ms"] == (low / 1e6, (high or 0) / 1e6)
    assert set(found.conservative_ms) == FIGURES - {"mean_ms"}
    assert found.conservative_ms["p99_ms"] == (estimate(samples, 99) or 0) / 1e6


def test_one_sample_is_a_summary_without_bounds() -> None:
    found = summarize([2_000_000], [1])
    assert found.mean_ms == found.p50_ms == found.p99_ms == 2
    assert set(found.intervals.values()) == {(0, None)}
    assert set(found.conservative_ms.values()) == {None}
    assert found.stable is None


def test_latencies_that_drift_are_not_stable() -> None:
    rising = np.array(latencies(1000)) * np.linspace(1, 1.1, 1000)
    assert summarize(rising.astype(int).tolist()).stable is False


def test_nothing_cannot_be_summarized() -> None:
    with pytest.raises(ValueError, match="no latencies"):
        summarize([])


def test_a_percentile_of_a_round_share_is_exact() -> None:
    assert percentile_ms([one * 10**6 for one in range(1, 1001)], 99.9) == 999
