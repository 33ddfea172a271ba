"""What there is to choose from: every way of running the package that was measured somewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import field, frozen

from eipack.advisor.advice import Kind
from eipack.errors import TargetSyntaxError
from eipack.measuring.environment import Environment
from eipack.measuring.report import Report, Row
from eipack.target import Target


@frozen
class Candidate:
    """One way of running on one machine, and all that was measured of it.

    `base` is the row with the least load, which its latencies are taken from; `rows` are all, the
    base among them. `noise_floor` is the relative difference that its report cannot tell
    from noise.
    """

    instance: str
    source: str = field(eq=False)
    base: Row
    rows: tuple[Row, ...]
    environment: Environment | None = None
    noise_floor: float = 0.0

    @property
    def device(self) -> str:
        """What it ran on: `cpu`, `cuda`, `eia`."""
        return device_of(self.base)

    @property
    def kind(self) -> Kind:
        """How it is counted: devices that are neither CPU nor GPU are accelerators."""
        kinds: dict[str, Kind] = {"cpu": "cpu", "cuda": "gpu"}
        return kinds.get(self.device, "accelerator")

    @property
    def accelerator(self) -> str | None:
        """What is attached by the network and has a price of its own: a size, else the target."""
        return (self.base.accelerator or self.base.target) if self.device == "eia" else None


def device_of(row: Row) -> str:
    """Return the device of a row; one that failed only says which was asked for."""
    try:
        return Target.parse(row.ran_on or row.target).device
    except TargetSyntaxError:
        return row.target


def of_report(report: Report, instance: str, source: str) -> list[Candidate]:
    """Return a report's candidates in the order of its rows.

    Rows of one target, program, precision and number of threads are one candidate under
    several loads.
    """
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in report.rows:
        key = (row.target, row.program, row.method, row.precision, row.threads)
        groups.setdefault(key, []).append(row)
    floor = report.noise.floor if report.noise is not None else 0.0
    return [
        Candidate(instance, source, _base(rows), tuple(rows), report.environment, floor)
        for rows in groups.values()
    ]


def distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Leave out those that say the same of the same machine twice."""
    found: list[Candidate] = []
    for candidate in candidates:
        if candidate not in found:
            found.append(candidate)
    return found


def _base(rows: Sequence[Row]) -> Row:
    """Return the row with the least load; one with wrong outputs speaks for all of them."""
    wrong = [row for row in rows if row.wrong]
    measured = [row for row in rows if row.error is None]
    return min(wrong or measured or rows, key=_load)


def _load(row: Row) -> tuple[bool, int, int, float]:
    scenario = row.scenario
    rate_per_s = scenario.rate_per_s or 0.0
    return not is_serial(row), scenario.batch or 0, scenario.concurrency, rate_per_s


def is_serial(row: Row) -> bool:
    """Tell whether the calls were made one after another, by one caller."""
    scenario = row.scenario
    return scenario.name == "single-stream" or (
        scenario.name == "closed-loop" and scenario.concurrency == 1
    )
