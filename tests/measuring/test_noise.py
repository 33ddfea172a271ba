"""Which rows are ties, by latencies that are made up."""

from __future__ import annotations

from random import Random

from eipack.measuring import Noise, Report, Row, Scenario, Settings
from eipack.measuring.noise import fastest_of, ties_of

from .test_report import ENVIRONMENT

MS = 1_000_000


def row(name: str, ms: float, scenario: Scenario | None = None, calls: int = 1000) -> Row:
    drawn = Random(name)
    samples = tuple(round(ms * MS * drawn.gauss(1, 0.01)) for _ in range(calls))
    p50 = sorted(samples)[calls // 2] / MS
    return Row(name, scenario=scenario or Scenario(), p50_ms=p50, samples_ns=samples)


def report(*rows: Row, floor: float | None = None) -> Report:
    noise = None if floor is None else Noise("cpu", None, 1.0, 1 - floor, 1 + floor, floor)
    return Report(2, "nearest-rank", ENVIRONMENT, Settings(), rows, noise)


def names(rows: tuple[Row, ...]) -> list[str]:
    return [row.target for row in rows]


def test_the_fastest_row_is_that_with_the_smallest_median() -> None:
    assert names(fastest_of(report(row("a", 2), row("b", 1), row("c", 3)))) == ["b"]


def test_a_row_alone_is_the_fastest_of_nothing() -> None:
    assert fastest_of(report(row("a", 2), Row("b", error="no such device"))) == ()


def test_a_difference_below_the_floor_is_a_tie() -> None:
    of = row("a", 1), row("b", 1.03), row("c", 1.1)
    assert names(ties_of(report(*of, floor=0.05))) == ["b"]
    assert names(ties_of(report(*of, floor=0.01))) == []


def test_a_difference_that_may_be_none_is_a_tie_without_an_a_a_run_too() -> None:
    of = report(row("a", 1, calls=30), row("b", 1.001, calls=30), row("c", 1.1, calls=30))
    assert {*names(fastest_of(of)), *names(ties_of(of))} == {"a", "b"}


def test_each_scenario_has_a_fastest_row_of_its_own() -> None:
    four = Scenario("closed-loop", 4)
    of = row("a", 1), row("b", 2), row("a", 8, four), row("b", 4, four)
    assert names(fastest_of(report(*of))) == ["a", "b"]
