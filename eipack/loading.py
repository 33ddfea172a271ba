"""`eipack.load`: choose a program, check trust and digests, and open a session."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from attrs import evolve

from eipack.ambient import current_target
from eipack.asked import check_options, of_engine, require_offered
from eipack.backend import Backend, LoadOptions, Precision, Runner
from eipack.comparison import compare
from eipack.errors import (
    AcceleratorError,
    DeviceNotFound,
    EipackError,
    ExecutionFailed,
    ProgramNotFound,
)
from eipack.fallback import Fallback
from eipack.manifest import ProgramRecord
from eipack.package import Package
from eipack.package.stored import StoredProgram
from eipack.parity.precision import loss_of
from eipack.registry import is_auto, locate
from eipack.session import Session, reason_of
from eipack.target import Target
from eipack.trust import Trust


def load(
    package: Package | str | os.PathLike[str],
    target: str | Target | None = None,
    *,
    program: str | None = None,
    trust: Trust = None,
    outputs_on: Literal["host", "device"] = "host",
    workers: int = 1,
    deadline_ms: float | None = None,
    retries: int = 0,
    failover: bool = False,
    fallback: str | Target | None = None,
    compare_local: bool = False,
    precision: Precision = "float32",
    threads: int | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Session:
    """Open a package on a target.

    `target` defaults to that of `eipack.use`, else `cpu`; `cpu+auto` and `auto` open what
    `eipack.tune` found to be the fastest, with `precision` as the lowest that may be taken, and
    warn with `NotTuned` where there is no record of it. `program` names one by id, kind or
    method; by default the backend's preferred kind is taken. `trust` limits the accepted
    signers to a key, the path of a PEM file, or a list of them. `workers` is the number
    of threads behind `submit` and `arun`.

    `precision` lets an engine compute float32 programs in less, if it still answers the
    package's samples within the published tolerance (`eipack.parity.precision`); `Session.info`
    has the loss. `threads` is how many a call may use, by default as many as this process has
    cores. `options` has an engine's own options by its name, as
    `{"openvino": {"NUM_STREAMS": 1}}`; those of other engines are left alone.

    For accelerators in other machines: `deadline_ms` is the longest that a call may take;
    `retries` is how often a call that was lost is sent again, though it may have been run;
    `failover` lets the next healthy one take over; `fallback` names the target that runs what
    no accelerator can, which `Session.info` counts. Without them a typed error says what failed.
    `compare_local` measures this processor too, and warns where that is the quicker one.

    Raises:
        OptionRefused: An option has a value that means nothing, or is not for this target.
        ValueError: There are no `workers`.
        UntrustedPackage: No trusted key has signed the package.
        DigestMismatch: Something in the file differs from its digest.
        BackendNotFound: No plugin serves the target.
        DeviceNotFound: The device is not there.
        ProgramNotFound: The backend cannot run any of the package's programs.
        ExecutionFailed: The backend fails to load the program.
        ParityFailed: The model does not stand the precision.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; a session has at least one thread for submit")
    wanted = current_target() if target is None else Target.parse(target)
    if is_auto(wanted):
        return _load_tuned(
            package,
            wanted,
            LoadOptions(precision=precision, threads=threads),
            program,
            options,
            trust=trust,
            outputs_on=outputs_on,
            workers=workers,
            deadline_ms=deadline_ms,
            retries=retries,
            failover=failover,
            fallback=fallback,
            compare_local=compare_local,
        )
    asked = LoadOptions(
        outputs_on, deadline_ms, retries, failover, precision, threads, of_engine(wanted, options)
    )
    check_options(asked)
    owns = not isinstance(package, Package)
    opened = Package.open(package) if not isinstance(package, Package) else package
    second = None
    if fallback is not None:
        second = Fallback(
            Target.parse(fallback),
            lambda place: load(opened, place, program=program, trust=trust, outputs_on=outputs_on),
        )
    try:
        try:
            plugin, place = _locate(wanted, any_other=failover)
            require_offered(plugin, asked)
            record = choose(opened, plugin, place, program)
            opened.check_trust(trust)
            runner = _load(plugin, opened._read_program(record), place, asked)
        except (AcceleratorError, DeviceNotFound) as error:
            if second is None:
                raise
            return _instead(second, error, opened, program, trust, workers, owns_package=owns)
        session = Session(
            opened, record, plugin, place, runner, workers, owns_package=owns, fallback=second
        )
    except BaseException:
        if owns:
            opened.close()
        raise
    local = (lambda: load(opened, "cpu", program=program, trust=trust)) if compare_local else None
    return _measured(session, precision, local)


def _measured(
    session: Session, precision: Precision, local: Callable[[], Session] | None
) -> Session:
    """Note what the precision costs, and how a session on this processor compares."""
    try:
        if precision != "float32":
            session.loss = loss_of(session, precision)
        if local is not None:
            session.comparison = compare(session, local)
    except BaseException:
        session.close()
        raise
    return session


def _load_tuned(
    package: Package | str | os.PathLike[str],
    wanted: Target,
    asked: LoadOptions,
    program: str | None,
    options: Mapping[str, Mapping[str, Any]] | None,
    **rest: Any,
) -> Session:
    """Open what the records of this machine say is the fastest."""
    from eipack.tuning.choosing import Wanted, chosen

    check_options(asked)
    of_engine(wanted, options)
    owns = not isinstance(package, Package)
    opened = Package.open(package) if not isinstance(package, Package) else package
    try:
        choice = chosen(opened, Wanted(wanted, asked.precision, asked.threads, program))
        given = of_engine(choice.target, options)
        session = load(
            opened,
            choice.target,
            program=choice.program,
            precision=choice.precision,
            threads=choice.threads,
            options={choice.target.engine or choice.target.device: {**choice.options, **given}},
            **rest,
        )
    except BaseException:
        if owns:
            opened.close()
        raise
    session._owns_package = owns
    return session


def _locate(wanted: Target, *, any_other: bool) -> tuple[Backend, Target]:
    try:
        return locate(wanted)
    except DeviceNotFound:
        if not any_other or wanted.ordinal is None:
            raise
        return locate(evolve(wanted, ordinal=None))


def _instead(
    second: Fallback,
    error: EipackError,
    package: Package,
    program: str | None,
    trust: Trust,
    workers: int,
    *,
    owns_package: bool,
) -> Session:
    """Open the session on the fallback's target, which it then says it runs on."""
    plugin, place = locate(second.target)
    record = choose(package, plugin, place, program)
    package.check_trust(trust)
    runner = _load(plugin, package._read_program(record), place, LoadOptions())
    second.reason = str(error)
    return Session(
        package, record, plugin, place, runner, workers, owns_package=owns_package, fallback=second
    )


def _load(backend: Backend, reader: StoredProgram, place: Target, options: LoadOptions) -> Runner:
    try:
        return backend.load(reader, place, options)
    except EipackError:
        raise
    except Exception as error:
        raise ExecutionFailed(
            f"{reader.manifest.name} cannot be loaded on {place}: {reason_of(error)}",
            target=str(place),
        ) from error


def choose(
    package: Package, backend: Backend, target: Target, program: str | None
) -> ProgramRecord:
    """Pick the program a backend will run: the one named, else the first of its preferred kind.

    Programs that need a later torch or Python than this one are passed over.

    Raises:
        ProgramNotFound: There is none that it can run.
    """
    kinds = backend.kinds_at(target)
    if program is not None:
        record = package.program(program)
        if record.kind not in kinds:
            raise ProgramNotFound(
                f"{target} cannot run {record.kind} programs; it runs {', '.join(kinds)}"
            )
        candidates = [record]
    else:
        candidates = [r for kind in kinds for r in package.programs if r.kind == kind]
    if not candidates:
        there = ", ".join(record.id for record in package.programs)
        raise ProgramNotFound(
            f"{target} runs {', '.join(kinds)}; {package.path} has {there}: export it "
            f"again with target={str(target)!r}"
        )
    reasons = []
    for record in candidates:
        reason = _too_old_for(record) or backend.why_unusable(record, target)
        if reason is None:
            return record
        reasons.append(f"the {record.id} program {reason}")
    raise ProgramNotFound(f"{target} can run no program of {package.path}: {'; '.join(reasons)}")


def _too_old_for(record: ProgramRecord) -> str | None:
    """Say what a program needs that is newer than what is here; None if nothing is."""
    needed = (record.lowest_torch or "0.0", record.lowest_python)
    here = (torch.__version__, platform.python_version())
    if all(_release(has) >= _release(needs) for has, needs in zip(here, needed, strict=True)):
        return None
    return (
        f"needs torch >= {record.lowest_torch} and Python >= {record.lowest_python}; this is torch "
        f"{torch.__version__} on Python {platform.python_version()}"
    )


def _release(version: str) -> tuple[int, ...]:
    """Read major and minor of a version such as `2.13.0+cpu`."""
    return tuple(int(part) for part in version.split(".")[:2])
