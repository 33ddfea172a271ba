"""What a run cannot tell from noise: an A/A comparison, and the ties that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING

from eipack.measuring.report import Noise, Report, Row

if TYPE_CHECKING:
    from eipack.measuring.lane import Lane


def noise_of(base: Lane, twin: Lane) -> Noise | None:
    """Compare a row with the same one in a second process; None where calls are too few for it."""
    from eipack.statistics.differences import ratio_of_medians

    if base.failure or twin.failure or base.entrant.origin is None:
        return None
    found = ratio_of_medians(base.samples_ns, twin.samples_ns, base.turns, twin.turns)
    if not (isfinite(found.low) and isfinite(found.high)):
        return None
    return Noise(
        str(base.entrant.target),
        base.entrant.origin.program,
        found.value,
        found.low,
        found.high,
        max(abs(found.low - 1), abs(found.high - 1)),
    )


def fastest_of(report: Report) -> tuple[Row, ...]:
    """Return the row with the smallest p50 of each scenario that several rows ran in."""
    return tuple(_fastest(rows) for rows in _by_scenario(report) if len(rows) > 1)


def ties_of(report: Report) -> tuple[Row, ...]:
    """Return the rows that cannot be told from the fastest one of their scenario.

    Their medians differ by less than the noise floor, or the 95 % interval of the ratio holds 1.
    """
    floor = report.noise.floor if report.noise else 0.0
    found = []
    for rows in _by_scenario(report):
        fastest = _fastest(rows)
        found += [row for row in rows if row is not fastest and _is_tie(fastest, row, floor)]
    return tuple(found)


def _by_scenario(report: Report) -> list[Sequence[Row]]:
    measured = [row for row in report.rows if row.p50_ms is not None and row.samples_ns]
    scenarios = dict.fromkeys(row.scenario for row in measured)
    return [[row for row in measured if row.scenario == one] for one in scenarios]


def _fastest(rows: Sequence[Row]) -> Row:
    return min(rows, key=lambda row: row.p50_ms or 0.0)


def _is_tie(fastest: Row, row: Row, floor: float) -> bool:
    from eipack.statistics.differences import ratio_of_medians

    turns = fastest.turns or None, row.turns or None
    found = ratio_of_medians(fastest.samples_ns, row.samples_ns, *turns)
    return abs(found.value - 1) < floor or found.low <= 1 <= found.high
