"""`eipack.load`: choose a program, check trust and digests, and open a session."""

from __future__ import annotations

import os
import platform
from typing import Literal

import torch
from attrs import evolve

from eipack.ambient import current_target
from eipack.backend import Backend, LoadOptions, Runner
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
from eipack.registry import locate
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
) -> Session:
    """Open a package on a target.

    `target` defaults to that of `eipack.use`, else `cpu`. `program` names one by id, kind or
    method; by default the backend's preferred kind is taken. `trust` limits the accepted
    signers to a key, the path of a PEM file, or a list of them. `workers` is the number
    of threads behind `submit` and `arun`.

    For accelerators in other machines: `deadline_ms` is the longest that a call may take;
    `retries` is how often a call that was lost is sent again, though it may have been run;
    `failover` lets the next healthy one take over; `fallback` names the target that runs what
    no accelerator can, which `Session.info` counts. Without them a typed error says what failed.
    `compare_local` measures this processor too, and warns where that is the quicker one.

    Raises:
        ValueError: An option has a value that means nothing, or is not for this target.
        UntrustedPackage: No trusted key has signed the package.
        DigestMismatch: Something in the file differs from its digest.
        BackendNotFound: No plugin serves the target.
        DeviceNotFound: The device is not there.
        ProgramNotFound: The backend cannot run any of the package's programs.
        ExecutionFailed: The backend fails to load the program.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; a session has at least one thread for submit")
    options = _options(outputs_on, deadline_ms, retries, failover=failover)
    wanted = current_target() if target is None else Target.parse(target)
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
            _require_offered(plugin, options)
            record = choose(opened, plugin, place, program)
            opened.check_trust(trust)
            runner = _load(plugin, opened._read_program(record), place, options)
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
    if compare_local:
        _compare(session, opened, program, trust)
    return session


def _compare(session: Session, package: Package, program: str | None, trust: Trust) -> None:
    try:
        session.comparison = compare(
            session, lambda: load(package, "cpu", program=program, trust=trust)
        )
    except BaseException:
        session.close()
        raise


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


def _options(
    outputs_on: Literal["host", "device"],
    deadline_ms: float | None,
    retries: int,
    *,
    failover: bool,
) -> LoadOptions:
    if outputs_on not in ("host", "device"):
        raise ValueError(f"outputs_on is {outputs_on!r}; choose 'host' or 'device'")
    if deadline_ms is not None and not 0 < deadline_ms < float("inf"):
        raise ValueError(f"deadline_ms is {deadline_ms!r}; give milliseconds above 0")
    if retries < 0:
        raise ValueError(f"retries is {retries}; give how often a lost call may be sent again")
    return LoadOptions(outputs_on, deadline_ms, retries, failover)


def _require_offered(backend: Backend, options: LoadOptions) -> None:
    """Refuse what the backend would ignore."""
    asked = {name for name in ("deadline_ms", "retries", "failover") if getattr(options, name)}
    if asked - backend.options:
        names = ", ".join(sorted(asked - backend.options))
        raise ValueError(f"{backend.device} does not offer {names}; leave it out")


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
    for record in candidates:
        if _new_enough(record):
            return record
    raise ProgramNotFound(
        f"the {candidates[0].id} program of {package.path} needs torch >= "
        f"{candidates[0].lowest_torch} and Python >= {candidates[0].lowest_python}; this is torch "
        f"{torch.__version__} on Python {platform.python_version()}"
    )


def _new_enough(record: ProgramRecord) -> bool:
    needed = (record.lowest_torch or "0.0", record.lowest_python)
    here = (torch.__version__, platform.python_version())
    return all(_release(has) >= _release(needs) for has, needs in zip(here, needed, strict=True))


def _release(version: str) -> tuple[int, ...]:
    """Read major and minor of a version such as `2.13.0+cpu`."""
    return tuple(int(part) for part in version.split(".")[:2])
