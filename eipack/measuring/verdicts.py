"""Whether a row keeps the limits that are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from eipack.measuring.report import Row
from eipack.statistics.limits import Checked, check
from eipack.statistics.percentiles import NS_PER_MS

PERCENTS: Final[Mapping[str, float | Literal["mean"]]] = {
    "mean_ms": "mean",
    "p50_ms": 50,
    "p90_ms": 90,
    "p95_ms": 95,
    "p99_ms": 99,
}


def verdict_of(row: Row, limits_ms: Mapping[str, float]) -> Checked | None:
    """Hold a row to all limits together, by the names of the figures; None if it has no calls.

    It passes where it passes them all and fails where it fails one; `more_calls` is what the limit
    needs that lacks most.
    """
    if not row.samples_ns:
        return None
    found = [
        check(row.samples_ns, PERCENTS[name], limit * NS_PER_MS, row.turns or None)
        for name, limit in limits_ms.items()
    ]
    if any(one.verdict == "fail" for one in found):
        return Checked("fail")
    more = max((one.more_calls for one in found), default=0)
    return Checked("insufficient", more) if more else Checked("pass")
