"""What tuning tries: every engine, program, precision and number of threads that is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from eipack import registry
from eipack.asked import of_engine
from eipack.backend import Backend, Precision
from eipack.errors import DeviceNotFound, EipackError, ProgramNotFound
from eipack.loading import choose
from eipack.manifest import ProgramRecord
from eipack.session import reason_of
from eipack.target import Target
from eipack.threads import usable_cores
from eipack.tuning.record import Objective, Row

if TYPE_CHECKING:
    from eipack.package import Package


@frozen
class Candidate:
    """One way to run the package; `plain` is the default engine as it runs without tuning."""

    target: Target
    program: str
    kind: str
    precision: Precision = "float32"
    threads: int | None = None
    options: Mapping[str, Any] = field(factory=dict)
    plain: bool = False

    def row(self) -> Row:
        """Return what is known of it before it is tried."""
        return Row(
            str(self.target),
            self.program,
            self.kind,
            self.precision,
            self.threads,
            dict(self.options),
            self.plain,
        )


@frozen
class Allowed:
    """What the caller lets tuning try; no `engines` stands for all of them."""

    precisions: tuple[Precision, ...]
    threads: tuple[int, ...]  # none: the engine's own choice
    engines: frozenset[str]
    options: Mapping[str, Mapping[str, Any]]


def default_threads(objective: Objective) -> tuple[int, ...]:
    """Return the numbers of threads to try: all cores; for latency half of them and one too."""
    cores = usable_cores()
    if objective == "throughput" or cores <= 2:
        return (cores,)
    return tuple(sorted({cores, cores // 2, 1}, reverse=True))


def places(target: Target) -> list[Target]:
    """Return the devices that a target of tuning stands for, each with its default engine.

    Raises:
        ValueError: The target names an engine.
        BackendNotFound: No plugin serves the device.
        DeviceNotFound: The device is not there.
    """
    if target.engine not in (None, "auto"):
        raise ValueError(
            f"tuning tries every engine of a device; name {target.device} and not {target}, and "
            f"limit the engines to {target.engine}"
        )
    if target.device != "auto":
        return [registry.locate(evolve(target, engine=None))[1]]
    there = [one.target for one in registry.devices() if one.healthy and one.target.engine is None]
    if not there:
        raise DeviceNotFound("there is no healthy device here; see `eipack devices`", target="auto")
    return sorted(there, key=lambda one: (one.device != "cpu", str(one)))


def plain(package: Package, place: Target) -> Candidate:
    """Return what runs when nobody tunes.

    Raises:
        ProgramNotFound: The default engine can run none of the package's programs.
    """
    plugin, place = registry.locate(place)
    record = choose(package, plugin, place, None)
    return Candidate(place, record.id, record.kind, plain=True)


def others(package: Package, place: Target, allowed: Allowed) -> Iterator[Candidate | Row]:
    """Give the other candidates on a device, and a row for each engine that has none.

    Raises:
        ValueError: The options name an engine that is not installed.
    """
    of_engine(place, allowed.options)
    for name in registry.names():
        device, _, engine = name.partition(".")
        if device != place.device or (
            allowed.engines and (engine or device) not in allowed.engines
        ):
            continue
        wanted = evolve(place, engine=engine or None)
        try:
            yield from _of_engine(package, wanted, allowed)
        except EipackError as error:
            yield Row(str(wanted), verdict="failed", reason=str(error))
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises, the others go on
            yield Row(str(wanted), verdict="failed", reason=reason_of(error))


def _of_engine(package: Package, wanted: Target, allowed: Allowed) -> list[Candidate]:
    plugin, place = registry.locate(wanted)
    precisions = [one for one in allowed.precisions if one in plugin.precisions]
    if not precisions:
        raise ProgramNotFound(f"it computes in {', '.join(plugin.precisions)} only")
    threads = (allowed.threads or (None,)) if "threads" in plugin.options else (None,)
    options = of_engine(wanted, allowed.options)
    return [
        Candidate(place, record.id, record.kind, precision, count, options)
        for record in _programs(package, plugin, place)
        for precision in precisions
        for count in threads
    ]


def _programs(package: Package, plugin: Backend, place: Target) -> Sequence[ProgramRecord]:
    """Return the first program of each kind that the engine can run.

    Raises:
        ProgramNotFound: There is none.
    """
    found = []
    for kind in plugin.kinds_at(place):
        for record in package.programs:
            if record.kind == kind and _usable(package, plugin, place, record):
                found.append(record)
                break
    return found or [choose(package, plugin, place, None)]


def _usable(package: Package, plugin: Backend, place: Target, record: ProgramRecord) -> bool:
    try:
        choose(package, plugin, place, record.id)
    except ProgramNotFound:
        return False
    return True
