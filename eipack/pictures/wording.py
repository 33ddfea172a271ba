"""The words of pictures and pages: figures with their units, and what rows are called."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from math import isfinite
from typing import Final

from eipack.errors import TargetSyntaxError
from eipack.measuring.environment import Environment
from eipack.measuring.report import Interval, Report, Row
from eipack.target import Target

UNKNOWN: Final = "-"
_KINDS: Final = {"cpu": "cpu", "cuda": "gpu", "eia": "accelerator"}


def figure(value: float | None) -> str:
    """Write a figure with three digits that count, or a dash where there is none."""
    if value is None or not isfinite(value):
        return UNKNOWN
    for least, digits in ((100, 0), (10, 1), (1, 2), (0.1, 3)):
        if abs(value) >= least:
            return f"{value:,.{digits}f}"
    return f"{value:.3g}"


def interval(bounds: Interval | None) -> str:
    """Write a confidence interval; one without an upper bound is open."""
    if bounds is None:
        return ""
    low, high = bounds
    return f"≥ {figure(low)}" if high is None else f"{figure(low)} to {figure(high)}"


def price(value: float) -> str:
    """Write a price with the digits that it has, two at least."""
    whole, _, digits = f"{value:,.5f}".partition(".")
    return f"{whole}.{digits.rstrip('0'):0<2}"


def kind_of(row: Row) -> str:
    """Return the kind of hardware that a row ran on: cpu, gpu, accelerator or other."""
    try:
        device = Target.parse(row.ran_on or row.target).device
    except TargetSyntaxError:
        return "other"
    return _KINDS.get(device, "other")


def target_of(row: Row) -> str:
    """Name where a row ran, and what was asked for if that differs."""
    if row.ran_on is None or row.ran_on == row.target:
        return row.target
    return f"{row.target} → {row.ran_on}"


def details_of(row: Row) -> str:
    """Name the rest that tells a row from others: program, scenario and precision."""
    method = row.method if row.method and row.method not in (row.program or "") else None
    program = f"{row.program} ({method})" if row.program and method else row.program or method
    precision = None if row.precision == "float32" else row.precision
    parts = (program, str(row.scenario), precision, row.accelerator)
    return " · ".join(part for part in parts if part)


def name_of(row: Row) -> str:
    """Name a row in one line."""
    return " · ".join(part for part in (target_of(row), details_of(row)) if part)


def measured(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that have latencies."""
    return [row for row in rows if row.error is None and row.p50_ms is not None]


def calls_of(report: Report) -> str:
    """Say how many calls the figures are of."""
    counts = {row.calls for row in measured(report.rows)}
    if not counts:
        return "no calls"
    least, most = min(counts), max(counts)
    one = "call" if most == 1 else "calls"
    return f"{most:,} {one} a row" if least == most else f"{least:,} to {most:,} calls a row"


def day_of(date: str) -> str:
    """Write an ISO date and time to the minute, or as it is where it is none."""
    try:
        when = datetime.fromisoformat(date)
    except ValueError:
        return date
    zone = " UTC" if when.utcoffset() is not None and not when.utcoffset() else ""
    return f"{when:%Y-%m-%d %H:%M}{zone}"


def package_of(where: Environment) -> str:
    """Name the package with its version."""
    version = where.package_version
    return where.package if version is None else f"{where.package}, version {version}"


def machine_of(where: Environment) -> str:
    """Name the machine, with what one rents it as."""
    cores = f"{where.cores:,} core{'' if where.cores == 1 else 's'}"
    return ", ".join(part for part in (where.instance, where.machine, cores) if part)


def versions_of(where: Environment) -> tuple[str, ...]:
    """Name the versions of what ran."""
    engines = (f"{name} {version}" for name, version in sorted(where.libraries.items()))
    known = (f"eipack {where.eipack}", f"torch {where.torch}", f"Python {where.python}")
    return (*known, *(text for text in engines if not text.startswith("torch ")))


def caption_of(report: Report) -> tuple[str, ...]:
    """Return what stands under every picture of a report."""
    where = report.environment
    return (
        package_of(where),
        machine_of(where),
        *versions_of(where),
        day_of(where.date),
        calls_of(report),
    )
