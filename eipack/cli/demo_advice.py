"""The end of the demo: what was measured, priced as machines of this size are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from eipack.measuring import Report

ACCELERATOR_USD_PER_HOUR: Final = 0.12
"""What an eia2.medium cost in 2020; nobody lists prices of eipack's accelerators."""
_ROOM: Final = 1.5
"""The limit that the demo asks for: so many times the P90 of the quickest row."""


def instance_like_this() -> str:
    """Name what one would rent in place of this machine: the cheapest with as many processors.

    A machine of the catalogue is taken by its own name.
    """
    from eipack.advisor import catalogue
    from eipack.measuring.instance import detect

    machines = [one for one in catalogue("ec2-2026-07").prices if one.accelerator is None]
    here, cores = detect(), len(os.sched_getaffinity(0))
    if here in {one.instance for one in machines}:
        return str(here)
    enough = [one for one in machines if (one.vcpu or 0) >= cores]
    largest = max(machines, key=lambda one: one.vcpu or 0)
    return min(enough, key=lambda one: one.usd_per_hour, default=largest).instance


def limit_of(report: Report) -> float:
    """Return a limit for P90, in whole ms, that some rows may keep and others not."""
    quickest = min(row.p90_ms for row in report.rows if row.p90_ms is not None)
    return float(max(1, round(quickest * _ROOM)))
