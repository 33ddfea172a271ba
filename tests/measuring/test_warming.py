"""When warming up is over, by latencies that are made up."""

from __future__ import annotations

from itertools import count
from random import Random

import pytest

from eipack.measuring import warming
from eipack.measuring.warming import warm_up

MS = 1_000_000


def test_calls_that_are_steady_from_the_start_are_over_soon() -> None:
    done, samples = warm_up(lambda calls: [MS] * calls)
    assert done.settled
    assert 10 <= done.calls == len(samples) <= 40


def test_slow_calls_at_the_start_are_waited_out_and_all_are_counted() -> None:
    number, drawn = count(), Random(0)

    def make(calls: int) -> list[int]:
        return [
            round(MS * (5 if next(number) < 30 else 1) * drawn.uniform(1, 1.005))
            for _ in range(calls)
        ]

    done, samples = warm_up(make)
    assert done.settled
    assert 30 < done.calls == len(samples) <= 200


def test_what_never_settles_goes_on_unsettled_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(warming, "_ENOUGH_S", 0.0)
    monkeypatch.setattr(warming, "settled_after", lambda _: None)
    blocks: list[int] = []

    def make(calls: int) -> list[int]:
        blocks.append(calls)
        return [MS] * calls

    done, _ = warm_up(make)
    assert not done.settled
    assert blocks == [1] * 10 + [10, 20, 40, 80, 160]
    assert done.calls == 320


def test_slow_models_are_given_a_time_and_not_a_number_of_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0

    def make(calls: int) -> list[int]:
        nonlocal now
        now += 3.0 * calls
        return [3000 * MS] * calls

    monkeypatch.setattr(warming, "perf_counter", lambda: now)
    done, _ = warm_up(make)
    assert (done.calls, done.settled) == (4, False)
