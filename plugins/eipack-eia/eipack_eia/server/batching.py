"""Calls of several clients as one: which may share a batch, and how one is run.

Only rows that were shown to be independent share a batch (`server/proving.py`), and only calls
whose tensors differ in nothing but their rows. Each call fits the signature by itself before it
joins others, so that none passes in a crowd that would be refused alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final

import torch
from attrs import frozen
from torch import Tensor

from eipack.parity.batches import batch_dim, most_rows, why_no_batch
from eipack.signature import Signature

if TYPE_CHECKING:
    from eipack_eia.server.models import Model
    from eipack_eia.server.scheduler import Job


@frozen
class Batching:
    """What batches are made: of how many rows at most, and how long a call waits for others."""

    most_rows: int
    delay_ns: int = 0


@frozen
class Sharing:
    """How many rows of a model may run at once, and if they may not, why.

    `open` says whether it is worth asking which calls might join: they may, or a proof runs.
    """

    rows: int = 0
    reason: str | None = None
    open: bool = False


OFF: Final = Sharing(reason="this accelerator makes no batches (--max-batch 1)")


@frozen
class Joins:
    """How a call may join others: those of an equal `key`, as long as there are `most` rows."""

    key: Hashable
    rows: int
    most: int


def joins_of(signature: Signature, leaves: Sequence[Tensor]) -> Joins | None:
    """Return how a call may join others; None where it may not, or is no valid call itself."""
    if why_no_batch(signature) is not None:
        return None
    if any(len(spec.shape) != leaf.dim() for spec, leaf in zip(signature.inputs, leaves)):  # noqa: B905 - `prepare` has one for each
        return None
    rows = {leaf.shape[0] for leaf in leaves}
    if len(rows) != 1 or not batch_dim(signature).admits(leaves[0].shape[0]):
        return None
    key = tuple((leaf.dtype, leaf.shape[1:]) for leaf in leaves)
    return Joins(key, rows.pop(), most_rows(signature, leaves))


def run_jobs(jobs: Sequence[Job], begin: Callable[[Job], None]) -> None:
    """Run jobs that joined each other as one batch, and if that fails one by one.

    `begin` is told of each execution's first job. Those that nobody waits for are not run.
    """
    due = [job for job in jobs if job.is_due()]
    if len(due) > 1:
        begin(due[0])
        if _run_together(due):
            return
    for job in due:
        begin(job)
        job.run()
    if len(due) > 1 and all(job.error is None for job in due):
        _shrink(due[0].model, sum(_rows(job) for job in due))


def _run_together(jobs: Sequence[Job]) -> bool:
    """Run one batch and give each job its own rows; tell whether that went well."""
    began = perf_counter_ns()
    for job in jobs:
        job.started_ns = began
    rows = [_rows(job) for job in jobs]
    try:
        with jobs[0].model as session:
            inputs = [torch.cat(parts) for parts in zip(*(job.leaves for job in jobs), strict=True)]
            outputs = session.run_flat(*inputs)
        shares = zip(*(leaf.split_with_sizes(rows) for leaf in outputs), strict=True)
        for job, share in zip(jobs, shares, strict=True):
            job.outputs = share
    except BaseException:  # noqa: BLE001 - each call meets its own part of it when it runs alone
        return False
    ended = perf_counter_ns()
    for job in jobs:
        job.ended_ns, job.rows = ended, None
    jobs[0].rows = sum(rows)
    return True


def _rows(job: Job) -> int:
    joins = job.joins
    assert joins is not None  # noqa: S101 - only jobs that may join others come here
    return joins.rows


def _shrink(model: Model, failed: int) -> None:
    """Make smaller batches: one failed whose calls all went well alone, as for lack of memory."""
    rows = min(model.sharing.rows, failed) // 2
    if rows > 1:
        model.sharing = Sharing(rows, open=True)
    else:
        model.sharing = Sharing(reason=f"a batch of {failed} rows failed whose calls run alone")
