"""Whether a row keeps the limits that are asked for."""

from __future__ import annotations

from collections.abc import Mapping

from eipack.measuring.report import Row
from eipack.statistics.figures import FIGURES
from eipack.statistics.limits import Checked, check
from eipack.statistics.percentiles import NS_PER_MS


def verdict_of(row: Row, limits_ms: Mapping[str, float]) -> Checked | None:
    """Hold a row to all limits together, by the names of the figures; None if it has no calls.

    It passes where it passes them all and fails where it fails one; `more_calls` is what the limit
    needs that lacks most.
    """
    if not row.samples_ns:
        return None
    found = [check_figure(row, figure, limit_ms) for figure, limit_ms in limits_ms.items()]
    if any(one.verdict == "fail" for one in found):
        return Checked("fail")
    more = max((one.more_calls for one in found), default=0)
    return Checked("insufficient", more) if more else Checked("pass")


def check_figure(row: Row, figure: str, limit_ms: float) -> Checked:
    """Hold one figure of a row to its limit, by the row's samples."""
    turns = row.turns if sum(row.turns) == len(row.samples_ns) else None
    return check(row.samples_ns, FIGURES[figure], limit_ms * NS_PER_MS, turns)
