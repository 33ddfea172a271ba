"""`eipack.load`: choose a program, check trust and digests, and open a session."""

from __future__ import annotations

import os
import platform
from typing import Literal

import torch

from eipack.ambient import current_target
from eipack.backend import Backend, LoadOptions, Runner
from eipack.errors import EipackError, ExecutionFailed, ProgramNotFound
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
) -> Session:
    """Open a package on a target.

    `target` defaults to that of `eipack.use`, else `cpu`. `program` names one by id, kind or
    method; by default the backend's preferred kind is taken. `trust` limits the accepted
    signers to a key, the path of a PEM file, or a list of them. `workers` is the number
    of threads behind `submit` and `arun`.

    Raises:
        ValueError: `workers` or `outputs_on` has a value that means nothing.
        UntrustedPackage: No trusted key has signed the package.
        DigestMismatch: Something in the file differs from its digest.
        BackendNotFound: No plugin serves the target.
        DeviceNotFound: The device is not there.
        ProgramNotFound: The backend cannot run any of the package's programs.
        ExecutionFailed: The backend fails to load the program.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; a session has at least one thread for submit")
    if outputs_on not in ("host", "device"):
        raise ValueError(f"outputs_on is {outputs_on!r}; choose 'host' or 'device'")
    wanted = current_target() if target is None else Target.parse(target)
    plugin, place = locate(wanted)
    owns = not isinstance(package, Package)
    opened = Package.open(package) if not isinstance(package, Package) else package
    try:
        record = choose(opened, plugin, place, program)
        opened.check_trust(trust)
        runner = _load(plugin, opened._read_program(record), place, LoadOptions(outputs_on))
        return Session(opened, record, plugin, place, runner, workers, owns_package=owns)
    except BaseException:
        if owns:
            opened.close()
        raise


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
    if program is not None:
        record = package.program(program)
        if record.kind not in backend.kinds:
            raise ProgramNotFound(
                f"{target} cannot run {record.kind} programs; it runs {', '.join(backend.kinds)}"
            )
        candidates = [record]
    else:
        candidates = [r for kind in backend.kinds for r in package.programs if r.kind == kind]
    if not candidates:
        there = ", ".join(record.id for record in package.programs)
        raise ProgramNotFound(
            f"{target} runs {', '.join(backend.kinds)}; {package.path} has {there}: export it "
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
