"""The tables of a report's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve

from eipack.cli.printing import plural, size_text
from eipack.measuring.noise import fastest_of, ties_of
from eipack.pictures.markup import Cell, Table, table_of
from eipack.pictures.wording import UNKNOWN, details_of, figure, interval, measured, target_of

if TYPE_CHECKING:
    from eipack.measuring.report import Report, Row

_FIGURES: Final = ("mean_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms")
_COLUMNS: Final = len(_FIGURES) + 3


def summary(report: Report) -> Table:
    """Return the figures of every row, and what is to be minded about it."""
    headings = ("", *(name[:-3] for name in _FIGURES), "MLPerf p90 / p99", "calls/s", "")
    marked = _marked(report)
    lines = [_summary(row, marked.get(at, [])) for at, row in enumerate(report.rows)]
    return Table("Summary", headings, lines)


def _marked(report: Report) -> dict[int, list[tuple[str, str]]]:
    """Return the fastest rows and those that tie with them, by their numbers."""
    of_those = evolve(report, rows=tuple(filter(_comparable, measured(report.rows))))
    fastest = {id(row) for row in fastest_of(of_those)}
    ties = {id(row) for row in ties_of(of_those)}
    told: dict[int, list[tuple[str, str]]] = {}
    for at, row in enumerate(report.rows):
        if id(row) in fastest:
            told[at] = [("fastest", "good")]
        elif id(row) in ties:
            told[at] = [("tie", "good")]
    return told


def _comparable(row: Row) -> bool:
    return len(row.samples_ns) > 0 and sum(row.turns) == len(row.samples_ns)


def _name(row: Row) -> Cell:
    return Cell(target_of(row), details_of(row))


def _summary(row: Row, marked: list[tuple[str, str]]) -> list[Cell]:
    if not measured([row]):
        why = "wrong outputs" if row.wrong else "failed"
        told = Cell(note=row.error or "", flags=[(why, "bad")], left=True, span=_COLUMNS)
        return [_name(row), told]
    figures = [
        Cell(figure(getattr(row, name)), interval(row.intervals.get(name))) for name in _FIGURES
    ]
    rate = Cell(figure(row.calls_per_s), _rows_per_s(row))
    cautious = (figure(row.conservative_ms.get(name)) for name in ("p90_ms", "p99_ms"))
    told = Cell(note=plural(row.calls, "call"), flags=[*marked, *_flags(row)], left=True)
    return [_name(row), *figures, Cell(" / ".join(cautious)), rate, told]


def _rows_per_s(row: Row) -> str:
    if row.rows_per_s is None or row.scenario.batch is None:
        return ""
    return f"{figure(row.rows_per_s)} rows/s"


def _flags(row: Row) -> list[tuple[str, str]]:
    flags = list[tuple[str, str]]()
    if row.stable is False:
        flags.append(("unstable", "warn"))
    if row.warm_up is not None and not row.warm_up.settled:
        flags.append(("did not settle", "warn"))
    if row.unanswered:
        flags.append((f"{row.unanswered:,} unanswered", "warn"))
    if row.loss is not None and row.loss > 0:
        flags.append((f"loss {row.loss:.1e}", "plain"))
    return flags


def resources(report: Report) -> Table:
    """Return how each row started, and what it took beside time."""
    rows = measured(report.rows)
    columns = {
        "cold start ms": [Cell(figure(row.cold_start_ms)) for row in rows],
        "load ms": [Cell(figure(row.load_ms)) for row in rows],
        "first call ms": [Cell(figure(row.first_ms)) for row in rows],
        "warm-up": [_warm_up(row) for row in rows],
        "discarded": [Cell(f"{row.discarded:,}") for row in rows],
        "CPU ms a call": [Cell(figure(row.resources.cpu_ms)) for row in rows],
        "host memory": [_host(row) for row in rows],
        "device memory": [Cell(_size(row.resources.device_peak_bytes)) for row in rows],
        "device in use": [Cell(_share(row.resources.device_utilisation)) for row in rows],
    }
    return table_of("Start and resources", [_name(row) for row in rows], columns)


def _warm_up(row: Row) -> Cell:
    if row.warm_up is None:
        return Cell(UNKNOWN)
    return Cell(plural(row.warm_up.calls, "call"), f"{figure(row.warm_up.ms)} ms")


def _host(row: Row) -> Cell:
    own = row.resources.host_bytes
    return Cell(
        _size(row.resources.host_peak_bytes), f"{size_text(own)} for the model" if own else ""
    )


def _size(nbytes: int | None) -> str:
    return UNKNOWN if nbytes is None else size_text(nbytes)


def _share(part: float | None) -> str:
    return UNKNOWN if part is None else f"{part:.0%}"
