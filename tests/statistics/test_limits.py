from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from eipack.statistics.early_stopping import estimate, fewest
from eipack.statistics.limits import MOST_CALLS, Checked, check


def latencies(calls: int, above: int) -> list[int]:
    """Return latencies of which so many exceed a limit of 10."""
    return [20] * above + [5] * (calls - above)


def test_a_percentile_passes_if_the_conservative_estimate_is_within_the_limit() -> None:
    for above in range(100):
        samples = latencies(500, above)
        within = (estimate(samples, 90) or 0) <= 10
        assert (check(samples, 90, 10).verdict == "pass") == within


def test_a_limit_is_met_when_no_call_is_above_it() -> None:
    assert check([10] * 64, 90, 10) == Checked("pass")


def test_a_limit_that_many_calls_exceed_fails() -> None:
    assert check(latencies(100, 30), 90, 10) == Checked("fail")


def test_too_few_calls_are_insufficient_and_say_how_many_more_it_takes() -> None:
    assert check(latencies(20, 0), 90, 10) == Checked("insufficient", fewest(90) - 20)
    assert check([], 90, 10) == Checked("insufficient", 64)
    assert check([], "mean", 10) == Checked("insufficient", 2)


@pytest.mark.parametrize(("above", "verdict"), [(16, "pass"), (24, "fail")])
def test_the_further_calls_decide_if_all_goes_on_as_it_did(above: int, verdict: str) -> None:
    checked = check(latencies(200, above), 90, 10)
    assert checked.verdict == "insufficient"
    total = 200 + checked.more_calls
    share = -(-above * total // 200)
    assert check(latencies(total, share), 90, 10).verdict == verdict


def test_a_limit_on_the_percentile_itself_is_never_decided() -> None:
    assert check(latencies(100, 10), 90, 10) == Checked("insufficient", MOST_CALLS)


def test_a_mean_is_judged_by_its_interval() -> None:
    samples = [round(1e6 * one) for one in np.random.default_rng(0).normal(10, 1, 1000)]
    assert check(samples, "mean", 10.3e6) == Checked("pass")
    assert check(samples, "mean", 9.7e6) == Checked("fail")
    near = check(samples, "mean", sum(samples) / 1000 + 2e4)
    assert near.verdict == "insufficient"
    # The standard error is 1/32 ms; for 2.33 of them to be 0.02 ms it takes 13,600 calls.
    assert 11_000 < near.more_calls < 14_000


def test_a_mean_at_its_limit_is_never_decided() -> None:
    assert check([9, 11] * 50, "mean", 10) == Checked("insufficient", MOST_CALLS)


def test_a_single_call_tells_nothing() -> None:
    assert check([5], "mean", 10) == Checked("insufficient", 1)
    assert check([5], 90, 10) == Checked("insufficient", 63)


def test_hardly_any_verdict_is_wrong_at_the_limit(simulations: ModuleType) -> None:
    generator = np.random.default_rng(0)
    limit = simulations.in_ns(np.array([np.exp(0.3 * 1.2815515655)]))[0]
    verdicts = [
        check(simulations.in_ns(generator.lognormal(0, 0.3, 300)), 90, limit).verdict
        for _ in range(500)
    ]
    assert verdicts.count("pass") <= 10
    assert verdicts.count("fail") <= 10
