"""The models of a slice: which are resident, how much memory each takes, and who uses it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock, RLock
from time import monotonic, time_ns
from typing import Any, Final, Protocol

from attrs import define, field, frozen

import eipack
from eipack.errors import AcceleratorFull, AcceleratorOverloaded, ProgramNotFound
from eipack.loading import choose
from eipack.manifest import ProgramRecord
from eipack.package import Package
from eipack.registry import backend, locate
from eipack.session import Session
from eipack.target import Target
from eipack.trust import Trust
from eipack_eia.server.batching import OFF, Sharing
from eipack_eia.server.pools import give_back

_NAMES: Final = 8
ABANDONED_S: Final = 900.0
"""After how long without a call a session no longer keeps a model from leaving."""


class PackageFiles(Protocol):
    """Where the files of packages are found by their ids."""

    def path(self, package: str) -> Path | None:
        """Return the file of a package that is whole."""

    def packages(self) -> Sequence[str]:
        """Name the packages that are whole."""


@define(eq=False)
class Statistics:
    """What has happened to a model; times are sums in nanoseconds.

    `joined` inferences ran in the batch of another. `batches` has for each number of rows how many
    executions there were and how long they took, of models whose calls may join each other.
    """

    inferences: int = 0
    failures: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    transfer_ns: int = 0
    last_inference_ms: int = 0
    joined: int = 0
    batches: dict[int, tuple[int, int]] = field(factory=dict)
    _lock: Lock = field(factory=Lock, repr=False)

    def count(self, queue_ns: int, compute_ns: int, transfer_ns: int, rows: int | None = 0) -> None:
        """Count one inference that went well; `rows` as in a `Job`."""
        with self._lock:
            self.inferences += 1
            self.queue_ns += queue_ns
            self.compute_ns += compute_ns
            self.transfer_ns += transfer_ns
            self.last_inference_ms = time_ns() // 1_000_000
            if rows is None:
                self.joined += 1
            elif rows:
                times, spent = self.batches.get(rows, (0, 0))
                self.batches[rows] = times + 1, spent + compute_ns

    def count_failure(self) -> None:
        """Count one that failed."""
        with self._lock:
            self.failures += 1


@define(eq=False)
class Model:
    """A program of a package on this accelerator; resident while it has a session."""

    name: str
    package: str
    record: ProgramRecord
    session: Session
    nbytes: int
    statistics: Statistics = field(factory=Statistics)
    leases: set[str] = field(factory=set)
    used: float = field(factory=monotonic)
    sharing: Sharing = OFF
    gone: bool = False
    _running: int = 0
    _lock: Lock = field(factory=Lock, repr=False)

    @property
    def busy(self) -> bool:
        """Whether a call runs on it, or a session is open that was used lately.

        A client that was killed never ends its session; one that only was quiet opens it again
        at its next call.
        """
        lately = monotonic() - self.used < ABANDONED_S
        return bool(self._running or (self.leases and lately))

    def __enter__(self) -> Session:
        """Keep the model while a call runs on it.

        Raises:
            ProgramNotFound: It has left meanwhile.
        """
        with self._lock:
            if self.gone:
                raise ProgramNotFound(f"model {self.name!r} is not loaded any more; load it again")
            self._running += 1
        return self.session

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._running -= 1
        self.used = monotonic()

    def leave(self) -> bool:
        """Let no call in any more, unless one runs; tell whether that is so."""
        with self._lock:
            self.gone = not self._running
            return self.gone


@frozen
class Known:
    """A program that could be resident: what the repository's index lists."""

    name: str
    package: str
    program: str


class Models:
    """Bring packages onto the target and let them go again; safe between threads.

    `memory_bytes` is the slice's memory: what models take is accounted for before each is loaded.
    Those that were used least recently leave first, and never one with an open session.
    `loaded` is told of each model that was loaded. `threads` is how many a call may use, on
    engines that can be told. `names` has the names of packages that are not to be called by their
    ids, `options` is what else `eipack.load` is given.
    """

    def __init__(
        self,
        files: PackageFiles,
        on: Target,
        memory_bytes: int | None,
        trust: Trust = None,
        loaded: Callable[[Model], None] | None = None,
        threads: int | None = None,
        *,
        names: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        offered = "threads" in backend(on).options
        self._threads = threads if offered else None
        self._names = names or {}
        self._options = options or {}
        self._files = files
        self._loaded = loaded
        self._trust = trust
        self._lock = RLock()
        # torch 2.11 crashes now and then where threads that come and go read exported programs
        self._loader = ThreadPoolExecutor(1, "eia-loader")
        self._index_lock = Lock()
        self._resident: dict[str, Model] = {}
        self._known: dict[str, Known] = {}
        self._statistics: dict[str, Statistics] = {}
        self.on = on
        self.memory_bytes = memory_bytes

    def resident(self) -> list[Model]:
        """List what is loaded."""
        return list(self._resident.values())

    @property
    def used_bytes(self) -> int:
        """The bytes that resident models are accounted with."""
        return sum(model.nbytes for model in self.resident())

    def known(self) -> list[Known]:
        """List every program of every package that is here."""
        with self._index_lock:
            for package in self._files.packages():
                if all(known.package != package for known in self._known.values()):
                    self._learn(package)
            return sorted(self._known.values(), key=lambda known: known.name)

    def _learn(self, package: str) -> None:
        path = self._files.path(package)
        if path is None:
            return
        with Package.open(path) as opened:
            for record in opened.programs:
                name = self._name(opened, package, record)
                self._known[name] = Known(name, package, record.id)

    def _name(self, opened: Package, package: str, record: ProgramRecord) -> str:
        return self._names.get(package) or _name(opened, package, record)

    def find(self, name: str) -> Model:
        """Return a resident model.

        Raises:
            ProgramNotFound: It is not resident, or there is none of that name.
        """
        model = self._resident.get(name)
        if model is not None:
            model.used = monotonic()
            return model
        if any(known.name == name for known in self.known()):
            raise ProgramNotFound(f"model {name!r} is not loaded; load it first", model=name)
        raise ProgramNotFound(f"there is no model {name!r} here", model=name)

    def load(self, name: str) -> Model:
        """Make a known model resident.

        Raises:
            ProgramNotFound: There is none of that name.
            AcceleratorFull: It does not fit.
        """
        found = next((known for known in self.known() if known.name == name), None)
        if found is None:
            raise ProgramNotFound(f"there is no model {name!r} here", model=name)
        return self.open(found.package, found.program)

    def open(self, package: str, program: str | None, lease: str | None = None) -> Model:
        """Make a package's program resident, the one that the backend prefers if none is named.

        With a `lease` it stays until `release`.

        Raises:
            ProgramNotFound: There is no such package or program.
            AcceleratorFull: It does not fit into the slice; both numbers are told.
            UntrustedPackage: Nobody whom this accelerator trusts has signed it.
        """
        with self._lock:
            path = self._files.path(package)
            if path is None:
                raise ProgramNotFound(f"package {package} is not on this accelerator; upload it")
            with Package.open(path) as opened:
                plugin, place = locate(self.on)
                record = choose(opened, plugin, place, program)
                name = self._name(opened, package, record)
                model = self._resident.get(name) or self._load(name, opened, record, package, path)
            model.used = monotonic()
            if lease is not None:
                model.leases.add(lease)
            return model

    def _load(
        self, name: str, opened: Package, record: ProgramRecord, package: str, path: Path
    ) -> Model:
        nbytes = bytes_of(opened, record)
        self._make_room(name, nbytes)
        session = self._loader.submit(self._session, path, record.id).result()
        statistics = self._statistics.setdefault(name, Statistics())
        model = Model(name, package, record, session, nbytes, statistics)
        self._resident[name] = model
        if self._loaded is not None:
            self._loaded(model)
        return model

    def _session(self, path: Path, program: str) -> Session:
        try:
            return eipack.load(
                path,
                self.on,
                program=program,
                trust=self._trust,
                threads=self._threads,
                **self._options,
            )
        finally:
            give_back()

    def _make_room(self, name: str, nbytes: int) -> None:
        limit = self.memory_bytes
        if limit is None:
            return
        if nbytes > limit:
            raise AcceleratorFull(
                f"{name} needs {nbytes} bytes, and the slice has {limit}; attach a larger one",
                needed_bytes=nbytes,
                slice_bytes=limit,
            )
        idle = sorted(
            (model for model in self._resident.values() if not model.busy),
            key=lambda model: model.used,
        )
        free = limit - self.used_bytes + sum(model.nbytes for model in idle)
        if nbytes <= free:  # otherwise they would leave in vain
            for model in idle:
                if self.used_bytes + nbytes <= limit:
                    return
                self._drop(model)
            free = limit - self.used_bytes
        if nbytes > free:
            raise AcceleratorFull(
                f"{name} needs {nbytes} bytes, and {free} of the slice's {limit} are free; "
                "the rest is of models with open sessions",
                needed_bytes=nbytes,
                slice_bytes=limit,
            )

    def release(self, lease: str) -> bool:
        """End a lease; tell whether there was one."""
        with self._lock:
            holders = [model for model in self._resident.values() if lease in model.leases]
            for model in holders:
                model.leases.discard(lease)
            return bool(holders)

    def unload(self, name: str) -> None:
        """Let a model go.

        Raises:
            ProgramNotFound: It is not resident.
            AcceleratorOverloaded: A session is open on it, or a call runs.
        """
        with self._lock:
            model = self.find(name)
            if model.leases or not self._drop(model):
                raise AcceleratorOverloaded(f"model {name!r} is in use and stays loaded")

    def _drop(self, model: Model) -> bool:
        if not model.leave():
            return False
        del self._resident[model.name]
        model.session.close()
        return True

    def close(self) -> None:
        """Let every model go on which no call runs."""
        with self._lock:
            for model in list(self._resident.values()):
                self._drop(model)
        self._loader.shutdown(wait=False)


def bytes_of(package: Package, record: ProgramRecord) -> int:
    """Return what a program's weights and own members take in memory."""
    sizes = {entry.name: entry.nbytes for entry in package.manifest.entries}
    members = {member.name: member.size for member in package.manifest.members}
    own = sum(members[name] for name in record.members)
    return sum(sizes[name] for name in set(record.bindings.values())) + own


def _name(opened: Package, package: str, record: ProgramRecord) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", opened.name).strip("-") or "model"
    stem = f"{plain[:80]}-{package[:_NAMES]}"
    return stem if len(opened.programs) == 1 else f"{stem}.{record.id}"
