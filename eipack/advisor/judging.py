"""Whether what was measured keeps the limits."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from eipack.advisor.advice import Verdict
from eipack.measuring.report import Row
from eipack.measuring.verdicts import check_figure


@frozen
class Judged:
    """A verdict; `gap` is the worst figure over its limit, `reason` why it is not `pass`."""

    verdict: Verdict | None = None
    more_calls: int = 0
    gap: float = 0.0
    reason: str | None = None


def judge(row: Row, limits: Mapping[str, float]) -> Judged:
    """Hold a row to limits in ms: by its samples, or by its figures where it has no samples."""
    all_of_them = [_judge(row, figure, limit_ms) for figure, limit_ms in limits.items()]
    if not all_of_them:
        return Judged()
    gap = max(one.gap for one in all_of_them)
    for verdict in ("fail", "insufficient"):
        found = [one for one in all_of_them if one.verdict == verdict]
        if found:
            more_calls = max(one.more_calls for one in found)
            reason = "; ".join(one.reason for one in found if one.reason)
            return Judged(found[0].verdict, more_calls, gap, reason)
    return Judged("pass", gap=gap)


def _judge(row: Row, figure: str, limit_ms: float) -> Judged:
    value: float | None = getattr(row, figure)
    if value is None:
        return Judged("insufficient", gap=float("inf"), reason=f"its {figure} was not measured")
    gap = value / limit_ms
    name = figure.removesuffix("_ms")
    above = Judged("fail", 0, gap, f"{name} is {value:.4g} ms, above {limit_ms:g} ms")
    if not row.samples_ns:
        return above if value > limit_ms else Judged("pass", gap=gap)
    checked = check_figure(row, figure, limit_ms)
    if checked.verdict == "fail":
        return above
    reason = f"{name} is {value:.4g} ms; to tell whether it keeps {limit_ms:g} ms takes "
    reason += f"about {checked.more_calls:,} more calls"
    if checked.verdict == "insufficient":
        return Judged("insufficient", checked.more_calls, gap, reason)
    return Judged("pass", gap=gap)
