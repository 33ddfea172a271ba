"""How many of a choice serve a rate of calls, and what that costs a month."""

from __future__ import annotations

from math import ceil
from typing import Final

from eipack.advisor.advice import Choice, Sizing

HOURS_PER_MONTH: Final = 730
MAX_UTILISATION: Final = 0.7
"""Above about this share of what a server can do, waiting grows faster than load."""


def size(choice: Choice, qps: float, max_utilisation: float = MAX_UTILISATION) -> Sizing | None:
    """Return how many of a choice serve `qps` and stay below a utilisation.

    None where its price, or what one of it can serve, is not known.
    """
    capacity = calls_per_s(choice)
    if capacity is None or choice.usd_per_hour is None:
        return None
    count = max(1, ceil(qps / (capacity * max_utilisation)))
    usd_per_month = count * choice.usd_per_hour * HOURS_PER_MONTH
    return Sizing(qps, count, usd_per_month, qps / (count * capacity))


def calls_per_s(choice: Choice) -> float | None:
    """Return what one can serve: the highest throughput measured, else one caller's."""
    if choice.calls_per_s is not None:
        return choice.calls_per_s
    mean_ms = choice.latencies.get("mean_ms")
    return None if choice.serial is None or not mean_ms else 1000 / mean_ms
