from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest


def test_the_script_gives_a_figure_for_every_promise(simulations: ModuleType) -> None:
    figures = simulations.measure(20)
    names = [figure.what for figure in figures]
    assert len(set(names)) == len(names)
    for promise in ("interval of p99_ms", "called unstable", "said to differ", "not found"):
        assert any(promise in name for name in names)
    assert all(0 <= figure.measured <= 100 for figure in figures)


@pytest.mark.parametrize("correlation", [0.3, 0.5])
def test_autocorrelated_numbers_are_standard_normal_and_correlated(
    simulations: ModuleType, correlation: float
) -> None:
    made = simulations.autocorrelated(np.random.default_rng(0), 50_000, correlation)
    assert made.mean() == pytest.approx(0, abs=0.03)
    assert made.std() == pytest.approx(1, abs=0.02)
    assert np.corrcoef(made[1:], made[:-1])[0, 1] == pytest.approx(correlation, abs=0.02)


def test_an_interval_that_is_too_narrow_is_seen(
    simulations: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def narrow(samples: np.ndarray, **kwargs: object) -> tuple[float, float]:
        arm = 1.6 * samples.std() / len(samples) ** 0.5
        return samples.mean() - arm, samples.mean() + arm

    monkeypatch.setattr(simulations, "mean_interval", narrow)
    assert simulations.covered("normal, 5 %", "mean_ms", 1000, 600) < 0.92
