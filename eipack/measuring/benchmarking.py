"""`eipack.benchmark`: every target, program and scenario in one run, taking turns."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from eipack.errors import ExecutionFailed
from eipack.measuring.entering import Entering, entering
from eipack.measuring.entrant import Entrant
from eipack.measuring.environment import describe
from eipack.measuring.lane import Lane
from eipack.measuring.loop import without_garbage_collection
from eipack.measuring.noise import noise_of
from eipack.measuring.plan import Plan, scenarios_of
from eipack.measuring.race import Progress, race
from eipack.measuring.report import Report, Row, Settings
from eipack.target import Target

if TYPE_CHECKING:
    from eipack.backend import Precision
    from eipack.package import Package
    from eipack.trust import Trust


def benchmark(
    package: Package | str | os.PathLike[str],
    targets: str | Target | Sequence[str | Target] = ("cpu",),
    *,
    programs: str | Sequence[str] | None = None,
    calls: int = 1000,
    duration_s: float | None = None,
    until_stable: bool = False,
    concurrency: Sequence[int] = (),
    rate_per_s: Sequence[float] = (),
    batch: Sequence[int] = (),
    offline: bool = False,
    in_process: bool = False,
    aa: bool | None = None,
    seed: int = 0,
    inputs: Any | None = None,
    trust: Trust = None,
    progress: Progress | None = None,
    precision: Precision = "float32",
    threads: int | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    instance: str | None = None,
) -> Report:
    """Measure a package on each target, host to host: start, load, first call, then many more.

    Every target by every program in every scenario is a row. `programs` names programs by id, kind
    or method; by default each target runs the one it prefers. One caller is always a scenario
    (`single-stream`); `concurrency` adds closed loops of so many callers, `rate_per_s` open loops
    with arrivals drawn from `seed`, `offline` rows run as fast as they go, and `batch` measures
    all of them at these sizes of the batch. `inputs` is one tensor, a tuple of arguments or a
    dict of keywords, by default the package's samples. `precision`, `threads` and `options`
    are those of `eipack.load`, for every target.

    Each target and program has a fresh process, unless `in_process`. All are opened one after the
    other and warmed up, and then take turns, so that what slows the machine slows all of them: for
    `calls` calls a row, or for `duration_s` a row, or `until_stable`, which is until the 95 %
    interval of every p90 is narrower than 5 % of it, or `duration_s` (60 by default) is over. With
    `aa`, by default where there are several rows, the first row is measured by two processes, and
    how much these differ is the report's `noise`. `instance` names the machine as one rents it;
    by default `EIPACK_INSTANCE` does, or the machine itself. `progress` is told how many of all
    calls (or ms) are done, and how many there are.

    Before it is timed, each must give the package's recorded outputs on its samples, within the
    published tolerance. One that does not, that crashes, hangs or cannot run here, is a failed row.

    Raises:
        EipackError: Every row failed (the first one's reason), or the package itself is at
            fault: damaged, not trusted, or changed during the run.
        SignatureMismatch: `inputs` or `batch` do not fit the package.
        ValueError: There is no target, no call, or a number means nothing.
    """
    from eipack.package import Package

    plan = Plan.of(calls, duration_s, until_stable=until_stable, seed=seed)
    scenarios = scenarios_of(concurrency, rate_per_s, batch, offline=offline)
    entrants = _entrants(targets, programs)
    with ExitStack() as stack:
        if isinstance(package, Package):
            opened = package
        else:
            opened = stack.enter_context(Package.open(package))
        opened.check_trust(trust)
        field = entering(
            opened,
            stack,
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eipack-"))),
            inputs=inputs,
            batch=batch,
            trust=trust,
            session=(precision, threads, options),
            in_process=in_process,
        )
        if in_process:
            stack.enter_context(without_garbage_collection())
        date, began_ns = datetime.now(UTC), perf_counter_ns()
        lanes = field.enter(entrants, scenarios)
        pair = _pair(field, lanes, aa=aa)
        race([*lanes, *pair[1:]], plan, progress or (lambda *_: None))
        rows = _rows(lanes, precision, began_ns)
        origins = [one.origin for one in entrants if one.origin is not None]
        flags = {"precision": precision, "threads": threads, "options": field.asked.options}
        report = Report(
            2,
            "nearest-rank",
            describe(opened, origins, instance, date),
            Settings(plan.calls, plan.duration_s, until_stable, in_process, seed, flags),
            rows,
            noise_of(*pair) if pair else None,
        )
        for entrant in {id(lane.entrant): lane.entrant for lane in (*lanes, *pair)}.values():
            entrant.leave()
    return report


def _entrants(
    targets: str | Target | Sequence[str | Target], programs: str | Sequence[str] | None
) -> list[Entrant]:
    several = [targets] if isinstance(targets, str | Target) else targets
    named = [programs] if isinstance(programs, str) else programs
    parsed = [Target.parse(target) for target in several]
    if not parsed:
        raise ValueError("there is no target; a benchmark needs at least one")
    return [Entrant(target, program) for target in parsed for program in (named or (None,))]


def _pair(field: Entering, lanes: Sequence[Lane], *, aa: bool | None) -> tuple[Lane, ...]:
    """Return the first row that runs and its twin for an A/A run; nothing where none is made."""
    running = [lane for lane in lanes if lane.failure is None]
    wanted = len(running) > 1 if aa is None else aa
    return (running[0], field.twin(running[0])) if running and wanted else ()


def _rows(lanes: Sequence[Lane], precision: str, began_ns: int) -> tuple[Row, ...]:
    """Return the row of each lane.

    Raises:
        EipackError: None was measured.
    """
    for lane in lanes:
        lane.finish()
    failures = [lane.failure for lane in lanes]
    first = failures[0]
    if first is not None and all(failures):
        target = str(lanes[0].entrant.target)
        raise first.error or ExecutionFailed(f"{target}: {first.reason}", target=target)
    return tuple(lane.row(precision, began_ns) for lane in lanes)
