"""How long a run takes, how it is cut into turns, and which scenarios it has."""

from __future__ import annotations

import pytest

from eipack.measuring.plan import Plan, Turns, lead_of, pace_of, scenarios_of
from eipack.measuring.scenario import Scenario

MS = 1_000_000
ONE = Scenario()
OPEN = Scenario("open-loop", rate_per_s=100)


def plan(calls: int = 1000, duration_s: float | None = None, *, until_stable: bool = False) -> Plan:
    return Plan.of(calls, duration_s, until_stable=until_stable)


@pytest.mark.parametrize(
    ("typical_ms", "calls", "turn"),
    [(0.01, 1000, 100), (10, 1000, 25), (10, 100, 10), (10, 20, 5), (500, 1000, 5), (1, 3, 3)],
)
def test_a_turn_is_a_quarter_second_a_tenth_of_the_calls_or_five_calls(
    typical_ms: float, calls: int, turn: int
) -> None:
    turns = Turns.of(plan(calls), ONE, typical_ms * MS)
    assert turns.calls == turn
    assert turns.count == -(-calls // turn)


@pytest.mark.parametrize(
    ("typical_ms", "duration_s", "count", "seconds"),
    [(1, 60, 240, 0.25), (1, 1, 10, 0.1), (200, 60, 60, 1.0), (5000, 10, 1, 10.0)],
)
def test_a_duration_is_cut_into_turns_that_hold_five_calls(
    typical_ms: float, duration_s: float, count: int, seconds: float
) -> None:
    turns = Turns.of(plan(duration_s=duration_s), ONE, typical_ms * MS)
    assert (turns.count, turns.seconds) == (count, pytest.approx(seconds))


def test_an_open_loops_turns_are_longer_since_its_queue_has_to_fill() -> None:
    assert Turns.of(plan(1000), OPEN, pace_of(OPEN, 1.0)).calls == 150
    assert Turns.of(plan(duration_s=30), OPEN, pace_of(OPEN, 1.0)).seconds == 1.5


def test_an_open_loops_pace_is_that_of_its_arrivals() -> None:
    assert pace_of(OPEN, 1.0) == 10 * MS
    assert pace_of(ONE, 3.0) == 3.0


def test_a_shared_turn_begins_with_a_call_that_does_not_count_or_several_quick() -> None:
    assert lead_of(ONE, 10 * MS, shared=True) == 1
    assert lead_of(ONE, MS / 10, shared=True) == 20
    assert lead_of(ONE, 1.0, shared=True) == 50
    assert lead_of(ONE, 10 * MS, shared=False) == 0


def test_the_first_arrivals_of_an_open_loop_never_count() -> None:
    assert lead_of(OPEN, 10 * MS, shared=False) == 25


def test_a_run_until_it_is_stable_takes_a_minute_at_most_unless_told_otherwise() -> None:
    assert plan(until_stable=True) == Plan(None, 60.0, until_stable=True)
    assert plan(until_stable=True, duration_s=5.0).duration_s == 5.0


def test_one_caller_is_always_a_scenario_and_not_one_twice() -> None:
    assert scenarios_of((), (), (), offline=False) == (ONE,)
    assert scenarios_of((1, 2, 2), (), (), offline=False) == (ONE, Scenario("closed-loop", 2))


def test_every_scenario_is_measured_at_every_size_of_the_batch() -> None:
    found = scenarios_of((4,), (10.0,), (1, 8), offline=True)
    assert [str(one) for one in found] == [
        "single-stream, batch 1",
        "closed-loop x4, batch 1",
        "open-loop at 10/s, batch 1",
        "offline, batch 1",
        "single-stream, batch 8",
        "closed-loop x4, batch 8",
        "open-loop at 10/s, batch 8",
        "offline, batch 8",
    ]
