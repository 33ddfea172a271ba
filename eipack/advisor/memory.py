"""Whether a model, and the process that runs it, fit into the memory that is there."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final

from attrs import frozen

from eipack.advisor.advice import Memory
from eipack.advisor.candidates import Candidate
from eipack.advisor.quotes import Quote

_GB: Final = 1e9


@frozen
class Lack:
    """Why memory does not do; `gap` is what is needed over what is there."""

    reason: str
    gap: float


def memory_of(candidate: Candidate, priced: Quote | None) -> Memory:
    """Return what a candidate needs at least, what it took, and what the machine has."""
    where = candidate.environment
    resources = [row.resources for row in candidate.rows]
    host = _largest(one.host_peak_bytes for one in resources)
    device = _largest(one.device_peak_bytes for one in resources)
    measured_on = where.memory_bytes if where is not None else None
    return Memory(
        least=None if where is None else where.weights_bytes + where.input_bytes,
        peak=host if candidate.kind == "cpu" else device,
        host_peak=host,
        host=(priced.memory_bytes if priced else None) or measured_on,
        accelerator=priced.accelerator_bytes if priced and candidate.kind != "cpu" else None,
    )


def lack_of(memory: Memory, *, on_host: bool, min_memory_gb: float | None) -> Lack | None:
    """Return what is lacking, or None; `min_memory_gb` is asked of where the model lies."""
    has = memory.host if on_host else memory.accelerator
    if min_memory_gb is not None and has is None:
        return Lack(f"nobody says whether it has {min_memory_gb:g} GB of memory", inf)
    asked = None if min_memory_gb is None else min_memory_gb * _GB
    for what, need, there in (
        ("there have to be", asked, has),
        ("weights and inputs take", memory.least, has),
        ("at its peak it took", memory.peak, has),
        ("its process took", memory.host_peak, memory.host),
    ):
        if need is not None and there is not None and need > there:
            reason = f"{what} {need / _GB:.3g} GB of memory, and it has {there / _GB:.3g} GB"
            return Lack(reason, need / there if there else inf)
    return None


def _largest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
