"""Who drops out of the race, and when it is over, by figures that are made up."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from eipack.children import Child, Lost
from eipack.tuning.race import Lane, drop, median_interval, race
from eipack.tuning.record import Row

MS = 1_000_000


class Scripted(Child):
    """Answer with calls of a given length, and note when it is ended."""

    def __init__(self, ms: float, fails_at: int | None = None) -> None:
        self.ms, self.fails_at, self.turns, self.over = ms, fails_at, 0, False

    def call(self, do: str, within_s: float, **asked: object) -> dict[str, Sequence[int]]:
        self.turns += 1
        if self.turns == self.fails_at:
            raise Lost("failed", "fell over")
        return {"samples_ns": [int(self.ms * MS * random.uniform(1, 1.001)) for _ in range(30)]}

    def end(self) -> None:
        self.over = True


def lane(ms: float, precision: str = "float32", batch: int = 1, **more: object) -> Lane:
    fails_at = more.pop("fails_at", None)
    row = Row("cpu", precision=precision, verdict="measured", batch=batch, **more)
    return Lane(Scripted(ms, fails_at), row)


def run(*lanes: Lane) -> None:
    race(lanes, 60.0, lambda _: None)


def test_what_is_clearly_slower_drops_out_and_its_process_ends() -> None:
    quick, slow = lane(1.0), lane(3.0)
    run(lane(2.9, plain=True), quick, slow)
    assert (quick.running, slow.running) == (True, False)
    assert slow.child.over
    assert slow.result().verdict == "slower"
    assert slow.result().p50_ms == pytest.approx(3.0, rel=0.01)


def test_plain_pytorch_never_drops_out() -> None:
    plain, quick = lane(50.0, plain=True), lane(1.0)
    run(plain, quick)
    assert plain.running
    assert not plain.child.over


def test_what_is_nearly_as_fast_stays() -> None:
    first, second = lane(1.0), lane(1.1)
    run(first, second)
    assert first.running
    assert second.running


def test_a_lower_precision_does_not_push_a_higher_one_out() -> None:
    exact, rough, worse = lane(2.0), lane(1.0, "bfloat16"), lane(3.0, "bfloat16")
    run(exact, rough, worse)
    assert exact.running
    assert rough.running
    assert not worse.running


def test_batches_compare_by_the_time_for_each_row() -> None:
    one, eight = lane(1.0), lane(4.0, batch=8)
    run(one, eight)
    assert not one.running
    assert eight.result().rows_per_s == pytest.approx(2000, rel=0.01)


def test_one_that_fails_leaves_the_others_running() -> None:
    good, bad = lane(1.0), lane(1.0, fails_at=2)
    run(good, bad)
    assert good.running
    assert (bad.result().verdict, bad.result().reason) == ("failed", "fell over")
    assert bad.result().p50_ms is None


def test_a_race_of_one_takes_few_turns() -> None:
    alone = lane(1.0, plain=True)
    run(alone)
    assert alone.child.turns == 1


def test_the_first_round_throws_out_only_what_is_twice_as_slow() -> None:
    first, second = lane(1.0), lane(1.6)
    for one in (first, second):
        one.samples += one.turn(0.1)
    drop([first, second], 2.0)
    assert second.running


def test_the_interval_of_few_calls_is_all_of_them() -> None:
    assert median_interval([3, 1, 2]) == (1, 3)


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    held = 0
    for _ in range(400):
        low, high = median_interval([random.randrange(1001) for _ in range(51)])
        held += low <= 500 <= high
    assert held / 400 > 0.97
