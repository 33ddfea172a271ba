"""What 100,000 calls cost: one after another, and at the highest throughput that was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import frozen

from eipack.advisor.advice import Cost
from eipack.advisor.candidates import Candidate, is_serial
from eipack.advisor.judging import judge
from eipack.measuring.report import Row

CALLS: Final = 100_000
_SECONDS_PER_HOUR: Final = 3600
_MS_PER_S: Final = 1000


@frozen
class Throughput:
    """Calls a second, counted in calls as the base row made them, with an interval or none."""

    calls_per_s: float
    scenario: str
    low: float | None = None
    high: float | None = None


def usd_of(usd_per_hour: float, ms: float) -> float:
    """Return what 100,000 calls of so many ms cost, one after another."""
    return usd_per_hour / _SECONDS_PER_HOUR * ms / _MS_PER_S * CALLS


def serial_cost(usd_per_hour: float, row: Row) -> Cost | None:
    """Return the cost of calls by one caller: price / 3600 x mean s x 100,000.

    None where the row was measured under another load, or not at all.
    """
    if row.mean_ms is None or not is_serial(row):
        return None
    low, high = row.intervals.get("mean_ms", (None, None))
    return Cost(
        usd_of(usd_per_hour, row.mean_ms),
        None if low is None else usd_of(usd_per_hour, low),
        None if high is None else usd_of(usd_per_hour, high),
    )


def saturated_cost(usd_per_hour: float, throughput: Throughput) -> Cost:
    """Return the cost of 100,000 calls on a machine that is as busy as it may be."""

    def cost(calls_per_s: float | None) -> float | None:
        return usd_of(usd_per_hour, _MS_PER_S / calls_per_s) if calls_per_s else None

    usd = usd_of(usd_per_hour, _MS_PER_S / throughput.calls_per_s)
    return Cost(usd, cost(throughput.high), cost(throughput.low))


def highest_throughput(candidate: Candidate, limits: Mapping[str, float]) -> Throughput | None:
    """Return the highest throughput at which the limits were kept.

    None where only one caller was measured, or no load kept them. An open loop that left calls
    unanswered, or whose latencies drifted, is none: its queue was growing.
    """
    base = candidate.base
    if base.error is not None or all(row is base or row.error for row in candidate.rows):
        return None
    kept = [row for row in candidate.rows if _holds(row, limits)]
    found = [one for row in kept if (one := _throughput(row, base)) is not None]
    return max(found, key=lambda one: one.calls_per_s, default=None)


def _holds(row: Row, limits: Mapping[str, float]) -> bool:
    queue_grew = row.unanswered > 0 or row.stable is False
    overloaded = row.scenario.name == "open-loop" and queue_grew
    return row.error is None and not overloaded and judge(row, limits).verdict in {None, "pass"}


def _throughput(row: Row, base: Row) -> Throughput | None:
    value = _in_calls_of(row, base)
    if not value:
        return None
    low, high = row.intervals.get("mean_ms", (None, None))
    if row.mean_ms is None or row.scenario.name == "open-loop" or low is None:
        return Throughput(value, str(row.scenario))  # what arrives is given, and not measured
    # With a fixed number of callers it is in inverse proportion to the mean (Little's law).
    return Throughput(
        value,
        str(row.scenario),
        None if high is None else value * row.mean_ms / high,
        value * row.mean_ms / low if low > 0 else None,
    )


def _in_calls_of(row: Row, base: Row) -> float | None:
    """Count a batch as the calls that its rows would take; None where its rows are not known."""
    if row.scenario.batch == base.scenario.batch:
        return row.calls_per_s
    if row.rows_per_s is None or not base.rows_per_s or not base.calls_per_s:
        return None
    return row.rows_per_s * base.calls_per_s / base.rows_per_s
