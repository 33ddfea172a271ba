"""What a turn charges its calls with, and when it says that they began."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter_ns, sleep
from typing import Any

import pytest

from eipack.measuring.scenario import Scenario
from eipack.measuring.turn import take


class Counting:
    """A meter and a splitter that only hear of the calls."""

    calls = 0

    def start(self) -> None:
        pass

    def stop(self, calls: int = 0) -> None:
        self.calls += calls


def turn(scenario: Scenario, **asked: Any) -> tuple[Mapping[str, Any], Counting, int]:
    """Take a turn; return what it says, the meter, and how many calls were made in it."""
    made: list[int] = []
    meter = Counting()

    def call() -> None:
        made.append(1)
        sleep(0.001)

    request = {"calls": None, "seconds": None, "lead": 0, "seed": 0, **asked}
    said = take(call, ((), {}), scenario, meter, Counting(), request)  # type: ignore[arg-type]
    return said, meter, len(made)


@pytest.mark.parametrize(
    "scenario",
    [Scenario(), Scenario("closed-loop", 3), Scenario("open-loop", rate_per_s=500)],
    ids=str,
)
def test_the_meter_hears_of_every_call_that_was_made_while_it_ran(scenario: Scenario) -> None:
    _, meter, made = turn(scenario, calls=20)
    assert meter.calls == made


def test_calls_of_an_open_loop_began_within_the_turn() -> None:
    before_ns = perf_counter_ns()
    said, _, _ = turn(Scenario("open-loop", rate_per_s=20), seconds=0.5)
    after_ns = perf_counter_ns()
    assert before_ns < min(said["began_ns"])
    assert max(said["began_ns"]) < after_ns
