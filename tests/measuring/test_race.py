"""Who takes the next turn, and what becomes of rows that fail, by processes that only pretend."""

from __future__ import annotations

from typing import Any

from eipack.children import Lost
from eipack.measuring.entrant import Entrant, Origin
from eipack.measuring.lane import Lane
from eipack.measuring.plan import Plan
from eipack.measuring.race import race
from eipack.measuring.scenario import Scenario
from eipack.target import Target

MS = 1_000_000
ORIGIN = Origin(
    ran_on="cpu",
    device="a processor",
    accelerator=None,
    program="torchscript",
    kind="torchscript",
    method="trace",
    threads=1,
    loss=None,
    digest="blake3:0",
    input_bytes=1,
    torch="2.13.0",
    torch_threads=1,
    cuda=None,
)


class Scripted:
    """Answer as a process would, with calls of a given length; note who had a turn."""

    def __init__(self, name: str, order: list[str], pace_ms: float, fails: int | None) -> None:
        self.name, self.order, self.pace_ms, self.fails = name, order, pace_ms, fails
        self.turns = 0
        self.asked: list[dict[str, Any]] = []
        self.ended = False

    def call(self, do: str, within_s: float, **asked: Any) -> dict[str, Any]:
        if do == "settle":
            found = {"calls": 10, "ms": 1.0, "settled": True, "rows": 2}
            return {**found, "pace_ns": self.pace_ms * MS}
        self.order.append(self.name)
        self.asked.append({**asked, "within_s": within_s})
        self.turns += 1
        if self.turns == self.fails:
            raise Lost("failed", "its process exited with 7", over=True)
        calls = asked["calls"] or round(asked["seconds"] * 1e3 / self.pace_ms)
        samples = [round(self.pace_ms * MS)] * calls
        began = [len(self.order) * 1000 + number for number in range(calls)]
        found = {"samples_ns": samples, "began_ns": began, "elapsed_ns": sum(samples)}
        return {**found, "discarded": asked["lead"], "unanswered": 0}

    def end(self) -> None:
        self.ended = True


def lanes(*paces_ms: float, fails: dict[int, int] | None = None) -> tuple[list[Lane], list[str]]:
    order: list[str] = []
    found = []
    for number, pace_ms in enumerate(paces_ms):
        host = Scripted("ABC"[number], order, pace_ms, (fails or {}).get(number))
        entrant = Entrant(Target("cpu"), None, host, origin=ORIGIN)
        found.append(Lane(entrant, 0, Scenario()))
    return found, order


def run(of: list[Lane], calls: int | None = 20, duration_s: float | None = None) -> None:
    race(of, Plan(calls, duration_s), lambda *_: None)


def test_another_one_begins_each_round() -> None:
    of, order = lanes(1, 1, 1)
    run(of)
    assert "".join(order) == "ABC" + "BCA" + "CAB" + "ABC"


def test_rows_with_short_turns_and_long_ones_are_spread_over_the_whole_run() -> None:
    of, order = lanes(1, 100)
    run(of, calls=50)
    assert [len(lane.turns) for lane in of] == [10, 10]
    of, order = lanes(25, 100)
    run(of, calls=200)
    assert [len(lane.turns) for lane in of] == [20, 40]
    assert "".join(order).replace("ABB", "").replace("BAB", "").replace("BBA", "") == ""


def test_all_make_exactly_the_calls_that_are_asked_for() -> None:
    of, _ = lanes(1, 30)
    run(of, calls=33)
    assert [(len(lane.samples_ns), sum(lane.turns)) for lane in of] == [(33, 33)] * 2


def test_a_duration_is_each_rows_own() -> None:
    of, _ = lanes(1, 10)
    run(of, calls=None, duration_s=2.0)
    assert [sum(lane.samples_ns) for lane in of] == [2000 * MS] * 2


def test_a_process_that_ends_is_one_failed_row_and_the_others_go_on() -> None:
    of, order = lanes(1, 1, fails={0: 2})
    run(of)
    assert len(of[1].samples_ns) == 20
    bad = of[0].row("float32", 0)
    assert (bad.error, bad.calls, bad.samples_ns) == ("its process exited with 7", 0, ())
    assert of[0].entrant.host is not None
    assert of[0].entrant.host.ended
    assert order.count("A") == 2


def test_all_scenarios_of_a_process_that_is_gone_have_failed() -> None:
    (first,), order = lanes(1, fails={0: 1})
    second = Lane(first.entrant, 1, Scenario("closed-loop", 2))
    run([first, second])
    assert order == ["A"]
    assert second.row("float32", 0).error == "its process exited with 7"


def test_one_who_is_alone_needs_no_calls_that_lead_in() -> None:
    of, _ = lanes(1)
    run(of)
    assert {asked["lead"] for asked in of[0].entrant.host.asked} == {0}
    of, _ = lanes(10, 10)
    run(of)
    assert {asked["lead"] for asked in of[0].entrant.host.asked} == {1}


def test_slow_calls_are_given_the_time_that_they_need() -> None:
    of, _ = lanes(60_000)
    run(of)
    assert of[0].entrant.host.asked[0]["within_s"] > 5 * 60


def test_arrivals_are_drawn_anew_for_every_turn() -> None:
    of, _ = lanes(1)
    run(of)
    seeds = [asked["seed"] for asked in of[0].entrant.host.asked]
    assert len(set(seeds)) == len(seeds)


def test_a_rows_figures_are_those_of_its_turns() -> None:
    of, _ = lanes(2)
    run(of, calls=40)
    row = of[0].row("float32", 1000)
    assert row.p50_ms == 2.0
    assert row.calls_per_s == 500
    assert row.rows_per_s == 1000
    assert row.discarded == 1 + 10
    assert row.began_ns[0] == 0
