"""Limits on a row: all of them together."""

from __future__ import annotations

import pytest
from attrs import evolve

from eipack.measuring import Row
from eipack.measuring.verdicts import verdict_of

MS = 1_000_000
MANY = Row("cpu", samples_ns=tuple(MS + number for number in range(1000)))


@pytest.mark.parametrize(
    ("limits_ms", "verdict"),
    [
        ({"p90_ms": 2.0}, "pass"),
        ({"p90_ms": 0.5}, "fail"),
        ({"p50_ms": 2.0, "p99_ms": 2.0, "mean_ms": 2.0}, "pass"),
        ({"p50_ms": 0.5, "p99_ms": 2.0}, "fail"),
    ],
)
def test_a_row_passes_where_it_keeps_every_limit(limits_ms: dict[str, float], verdict: str) -> None:
    found = verdict_of(MANY, limits_ms)
    assert found is not None
    assert (found.verdict, found.more_calls) == (verdict, 0)


def test_too_few_calls_are_insufficient_and_say_how_many_more_it_takes() -> None:
    few = Row("cpu", samples_ns=MANY.samples_ns[:20])
    found = verdict_of(few, {"p90_ms": 2.0, "p99_ms": 2.0})
    assert found is not None
    assert (found.verdict, found.more_calls) == ("insufficient", 662 - 20)


def test_a_limit_that_is_missed_for_sure_needs_no_more_calls_for_the_others() -> None:
    few = Row("cpu", samples_ns=MANY.samples_ns[:20])
    found = verdict_of(few, {"p50_ms": 0.5, "p99_ms": 2.0})
    assert found is not None
    assert found.verdict == "fail"


def test_turns_that_do_not_add_up_to_the_calls_count_for_nothing() -> None:
    found = verdict_of(evolve(MANY, turns=(5, 5)), {"mean_ms": 2.0})
    assert found == verdict_of(MANY, {"mean_ms": 2.0})


def test_a_row_that_failed_has_no_verdict() -> None:
    assert verdict_of(Row("cpu", error="no such device"), {"p90_ms": 1.0}) is None
