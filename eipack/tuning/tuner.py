"""`eipack.tune`: try what is installed, hold it to the model's answers, race it, keep that."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, get_args

from attrs import evolve

from eipack.backend import Precision
from eipack.children import Lost, key_files
from eipack.errors import ExecutionFailed, KeyUnavailable
from eipack.measuring.environment import manifest_digest
from eipack.parity.batches import batch_dim, why_no_batch
from eipack.registry import locate, names
from eipack.target import Target
from eipack.tuning.candidates import Allowed, Candidate, default_threads, others, places, plain
from eipack.tuning.choosing import best
from eipack.tuning.entering import Entering
from eipack.tuning.machine import Machine, this_machine
from eipack.tuning.race import race
from eipack.tuning.record import Objective, Record, Row, keep

if TYPE_CHECKING:
    from eipack.package import Package
    from eipack.signature import Signature
    from eipack.trust import Trust

Progress = Callable[[str, float, float], None]
_LARGEST_BATCH = 64
_OPENING = 0.75
"""Of the budget, what loading and checking may take."""


class NotKept(UserWarning):
    """A tuning record could not be written, and later loads will not find it."""


def tune(
    package: Package | str | os.PathLike[str],
    target: str | Target = "cpu",
    *,
    objective: Objective = "latency",
    budget_s: float = 60.0,
    precisions: Sequence[Precision] = ("float32",),
    threads: Sequence[int] | None = None,
    engines: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    trust: Trust = None,
    progress: Progress | None = None,
) -> Record:
    """Find the fastest way to run a package on a device, and keep it for `cpu+auto` and `auto`.

    `target` is a device (`cpu`, `cuda:0`, `eia:0`), or `auto` for all that are here. Every
    installed engine is tried, or those that `engines` names, by each kind of program that the
    package has, in each of `precisions` and with each number of `threads`; plain PyTorch always.
    `options` has engines' own options by the engine's name, as for `eipack.load`. Each
    candidate runs in a process of its own, has to answer fresh inputs as plain PyTorch does,
    and is then timed in turns with the others. `objective="throughput"` times batches of 1, 2,
    4, … rows, and looks for the most rows a second.

    `budget_s` is how long all that may take once plain PyTorch has answered. `progress` is told
    what is being done, and how many seconds of how many are used.

    The record is kept for this user, package, machine and these versions; where that fails, a
    `NotKept` warning says why.

    Raises:
        ValueError: An argument means nothing, or the package takes no batch.
        UntrustedPackage: No trusted key has signed the package.
        BackendNotFound: No plugin serves the device.
        DeviceNotFound: The device is not there.
        ProgramNotFound: The default engine can run none of the package's programs.
        ExecutionFailed: The default engine fails.
    """
    from eipack.package import Package

    wanted = Target.parse(target)
    _check(objective, budget_s, precisions, threads, engines)
    with ExitStack() as stack:
        if isinstance(package, Package):
            opened = package
        else:
            opened = stack.enter_context(Package.open(package))
        batches = _batches(opened.signature, objective)
        opened.check_trust(trust)
        there = places(wanted)
        allowed = Allowed(
            tuple(dict.fromkeys(precisions)),
            tuple(threads or ()),
            frozenset(engines or ()),
            options or {},
        )
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eipack-")))
        entering = Entering(opened, folder, key_files(trust, folder), batches)
        stack.callback(entering.end)
        date, began = datetime.now(UTC).isoformat(timespec="seconds"), monotonic()
        tell = progress or (lambda *_: None)
        candidates = partial(_others, opened, there, allowed, objective)
        tell(f"loading {there[0]}", 0.0, budget_s)
        rows = _rows(entering, plain(opened, there[0]), candidates, budget_s, tell)
        winner = best(row for row in rows if row.precision in ("float32", *precisions))
        if winner is None:
            raise ExecutionFailed(f"{opened.name} ran on nothing to the end: {rows[0].reason}")
        record = Record(
            1,
            date,
            opened.name,
            manifest_digest(opened),
            "auto" if wanted.device == "auto" else str(there[0]),
            objective,
            allowed.precisions,
            monotonic() - began,
            _machine(there),
            winner,
            tuple(sorted(rows, key=_rank)),
        ).sealed()
    _keep(record)
    return record


def _others(
    package: Package, there: Sequence[Target], allowed: Allowed, objective: Objective
) -> list[Candidate | Row]:
    """List the candidates on every device, and what none can be made of.

    Each engine's preferred kind of program comes before any engine's second one, so that a short
    budget leaves out variants and not engines.
    """
    listed = [
        one
        for place in there
        for one in others(package, place, _with_threads(allowed, place, objective))
    ]
    kinds: dict[str, list[str | None]] = {}
    for one in listed:
        kinds.setdefault(str(one.target), []).append(one.kind)
    return sorted(listed, key=lambda one: _first_of(kinds[str(one.target)], one.kind))


def _first_of(kinds: Sequence[str | None], kind: str | None) -> int:
    return list(dict.fromkeys(kinds)).index(kind)


def _rows(
    entering: Entering,
    first: Candidate,
    list_others: Callable[[], list[Candidate | Row]],
    budget_s: float,
    tell: Progress,
) -> list[Row]:
    """Try everything; return what became of it."""
    try:
        entering.first(first, min(2.0, budget_s / 20))
    except Lost as lost:
        raise ExecutionFailed(f"{first.target}: {lost}", target=str(first.target)) from lost
    began = monotonic()
    listed = list_others()
    candidates = [one for one in listed if isinstance(one, Candidate) and entering.is_new(one)]
    entering.others(
        candidates,
        _OPENING * budget_s,
        lambda stage: tell(stage, monotonic() - began, budget_s),
    )
    spent = monotonic() - began
    race(
        entering.lanes,
        max(budget_s - spent, (1 - _OPENING) * budget_s),
        lambda seconds: tell("timing", spent + seconds, budget_s),
    )
    failed = [one for one in listed if isinstance(one, Row)]
    return [*(lane.result() for lane in entering.lanes), *entering.out, *failed]


def _with_threads(allowed: Allowed, place: Target, objective: Objective) -> Allowed:
    """Fill in which numbers of threads are tried, where the caller does not say."""
    if allowed.threads or place.device != "cpu":
        return allowed
    return evolve(allowed, threads=default_threads(objective))


def _check(
    objective: str,
    budget_s: float,
    precisions: Sequence[str],
    threads: Sequence[int] | None,
    engines: Sequence[str] | None,
) -> None:
    if objective not in get_args(Objective):
        raise ValueError(f"objective is {objective!r}; choose {' or '.join(get_args(Objective))}")
    if not 0 < budget_s < float("inf"):
        raise ValueError(f"budget_s is {budget_s!r}; give seconds above 0")
    unknown = [one for one in precisions if one not in get_args(Precision)]
    if unknown or not precisions:
        given = repr(unknown[0]) if unknown else "nothing"
        raise ValueError(f"precision is {given}; choose of {', '.join(get_args(Precision))}")
    if any(count < 1 for count in threads or ()):
        raise ValueError(f"threads are {list(threads or ())}; a call has at least one")
    known = {name.partition(".")[2] or name for name in names()}
    strange = sorted(set(engines or ()) - known)
    if strange:
        raise ValueError(
            f"no engine {strange[0]!r} is installed; there are {', '.join(sorted(known))}"
        )


def _batches(signature: Signature, objective: Objective) -> list[dict[str, int]]:
    """List the batches to time; none for latency, which is that of the samples."""
    if objective == "latency":
        return []
    reason = why_no_batch(signature)
    if reason is not None:
        raise ValueError(
            f"there are no batches to tune for throughput: {reason}; tune for latency, or export "
            "the model with a dynamic batch"
        )
    batch = batch_dim(signature)
    top = _LARGEST_BATCH if batch.max is None else min(batch.max, _LARGEST_BATCH)
    powers = [2**n for n in range(top.bit_length()) if batch.min <= 2**n <= top]
    return [{batch.name: size} for size in powers or [batch.min]]


def _machine(there: Sequence[Target]) -> Machine:
    found = {str(place): locate(place)[0].find(place).name for place in there}
    return this_machine(tuple(sorted({place.device for place in there})), found)


def _rank(row: Row) -> tuple[bool, bool, float]:
    return row.p50_ms is None, row.verdict != "measured", row.row_ms


def _keep(record: Record) -> None:
    try:
        keep(record)
    except KeyUnavailable as error:
        warnings.warn(f"the tuning record is not kept: {error}", NotKept, stacklevel=3)
