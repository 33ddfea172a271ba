"""What `eipack bench` prints: latencies, starting up, the parts of remote calls, the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import click

from eipack.cli.printing import plural, print_table, size_text

if TYPE_CHECKING:
    from eipack.measuring import Report, Row, Scenario
    from eipack.statistics.limits import Checked

_LATENCIES: Final = ("mean_ms", "p50_ms", "p90_ms", "±", "p95_ms", "p99_ms", "calls/s", "memory")
_START: Final = ("cold_start_ms", "load_ms", "first_ms", "warm-up", "cpu_ms", "device memory")
_PARTS: Final = ("network_ms", "queue_ms", "compute_ms")
Verdicts = Sequence["Checked | None"]


def print_report(report: Report, verdicts: Verdicts) -> None:
    """Print the rows that have figures as tables, and where they were measured.

    `verdicts` are those of the rows, in their order; there are none where nothing limits them.
    """
    from eipack.measuring.noise import fastest_of, ties_of

    marks: dict[int, list[str]] = {id(row): [] for row in report.rows}
    for rows, mark in ((fastest_of(report), "fastest"), (ties_of(report), "tie")):
        for row in rows:
            marks[id(row)].append(mark)
    for row, verdict in zip(report.rows, verdicts, strict=False):
        marks[id(row)] += _verdict(verdict)
    measured = [row for row in report.rows if row.error is None]
    several = len({row.scenario for row in report.rows}) > 1
    _print_latencies(measured, marks, several=several)
    click.echo()
    _print_start(measured)
    if any(row.parts for row in measured):
        click.echo()
        _print_parts(measured, several=several)
    click.echo()
    _print_where(report)


def _print_latencies(
    rows: Sequence[Row], marks: Mapping[int, Sequence[str]], *, several: bool
) -> None:
    columns = (*_named(several=several), *_LATENCIES, "")
    cells = [
        (
            *_names(row, several=several),
            *_latencies(row),
            ", ".join((*_warnings(row), *marks[id(row)])),
        )
        for row in rows
    ]
    print_table(columns, cells, right=_LATENCIES)


def _latencies(row: Row) -> tuple[str, ...]:
    low, high = row.intervals.get("p90_ms", (0.0, None))
    half = None if high is None else (high - low) / 2
    figures = (row.mean_ms, row.p50_ms, row.p90_ms, half, row.p95_ms, row.p99_ms)
    return (
        *map(number, figures),
        number(row.calls_per_s),
        _size(row.resources.host_peak_bytes),
    )


def _warnings(row: Row) -> list[str]:
    found = ["unstable"] if row.stable is False else []
    if row.warm_up is not None and not row.warm_up.settled:
        found.append("not warmed up")
    if row.unanswered:
        found.append(f"{row.unanswered:,} unanswered")
    return found


def _verdict(checked: Checked | None) -> list[str]:
    if checked is None:
        return []
    if checked.verdict == "insufficient":
        return [f"insufficient (+{checked.more_calls:,} calls)"]
    return [checked.verdict]


def _print_start(rows: Sequence[Row]) -> None:
    """Print what belongs to a process once for each, with the first of its scenarios."""
    first = {(row.target, row.program): row for row in reversed(rows)}
    cells = [
        (
            *_names(row, several=False),
            *map(number, (row.cold_start_ms, row.load_ms, row.first_ms)),
            "" if row.warm_up is None else plural(row.warm_up.calls, "call"),
            number(row.resources.cpu_ms),
            _size(row.resources.device_peak_bytes),
        )
        for row in rows
        if row is first[row.target, row.program]
    ]
    columns = (*_named(several=False), *_START)
    if not any(row.resources.device_peak_bytes is not None for row in rows):
        columns, cells = columns[:-1], [one[:-1] for one in cells]
    print_table(columns, cells, right=_START)


def _print_parts(rows: Sequence[Row], *, several: bool) -> None:
    cells = [
        (
            *_names(row, several=several),
            *map(number, (row.parts.network_ms, row.parts.queue_ms, row.parts.compute_ms)),
        )
        for row in rows
        if row.parts is not None
    ]
    print_table((*_named(several=several), *_PARTS), cells, right=_PARTS)


def _print_where(report: Report) -> None:
    where, noise = report.environment, report.noise
    threads = plural(where.threads, "torch thread")
    machine = where.machine if where.instance is None else f"{where.instance}, {where.machine}"
    click.echo(f"{machine}, {plural(where.cores, 'core')}, {threads}, torch {where.torch}")
    calls = {row.calls for row in report.rows if row.error is None}
    few, many = min(calls), max(calls)
    click.echo(f"calls of each row: {few:,}" + ("" if few == many else f" to {many:,}"))
    if noise is not None:
        click.echo(
            f"noise: {noise.target} by {noise.program}, opened twice, differs by "
            f"{abs(noise.ratio - 1):.1%}; below {noise.floor:.1%}, differences are ties"
        )


def _named(*, several: bool) -> tuple[str, ...]:
    return ("target", "program", *(("scenario",) if several else ()))


def _names(row: Row, *, several: bool) -> tuple[str, ...]:
    names = (row.ran_on or row.target, row.program or "")
    return (*names, short(row.scenario)) if several else names


def short(scenario: Scenario) -> str:
    """Name a scenario in few letters, for a column."""
    size = {
        "closed-loop": f"closed x{scenario.concurrency}",
        "open-loop": f"open {scenario.rate_per_s or 0:g}/s",
    }.get(scenario.name, scenario.name)
    return size + (f", batch {scenario.batch}" if scenario.batch else "")


def number(value: float | None) -> str:
    """Write a number with four digits that count, as far as the point; small ones to 10^-5."""
    if value is None:
        return ""
    if value >= 1000:
        return f"{value:,.0f}"
    if 0 < value < 0.1:
        return f"{value:.5f}"
    return f"{value:.{max(0, 4 - len(f'{value:.3f}'.partition('.')[0]))}f}"


def _size(nbytes: int | None) -> str:
    return "" if nbytes is None else size_text(nbytes)
