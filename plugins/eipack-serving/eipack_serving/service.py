"""One package as a serving framework needs it: opened once a process, warmed up, drained."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from eipack_eia import oip

from eipack.loading import load
from eipack.package import Package
from eipack.target import Target
from eipack.threads import usable_cores
from eipack_serving.arrays import Array, Inputs, by_name, leaves_of, named
from eipack_serving.failures import BadRequest, Unavailable
from eipack_serving.lifetime import Lifetime, State
from eipack_serving.stacking import Stacking

if TYPE_CHECKING:
    from eipack.backend import Precision
    from eipack.session import Session
    from eipack.trust import Trust

__all__ = ["BadRequest", "PackageService", "Unavailable"]

_T = TypeVar("_T")
_REMOTE_WORKERS: Final = 8
_PLATFORM: Final = "eipack_package"
_VERSIONS: Final = ("1",)


class PackageService:
    """Serve one package on one target from one process; safe between threads.

    Making it is light and it may be pickled: the package is opened when it is first used in a
    process, once for all threads, and again in a forked child. `warm_up` is how many calls with
    the package's samples come before the first request, `workers` how many `ainfer` runs at once.
    The other arguments are those of `eipack.load`. Outputs are NumPy arrays, of
    `ml_dtypes.bfloat16` where the model gives bfloat16, which NumPy itself lacks.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        target: str | Target = "cpu",
        *,
        precision: Precision = "float32",
        threads: int | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        trust: Trust = None,
        warm_up: int = 3,
        workers: int | None = None,
    ) -> None:
        self.file = os.fspath(file)
        self.target = Target.parse(target)
        self.warm_up = warm_up
        self.workers = workers or _workers(self.target, threads)
        self._asked: dict[str, Any] = {
            "precision": precision,
            "threads": threads,
            "options": options,
            "trust": trust,
        }
        self._reset()
        _services.add(self)

    def _reset(self) -> None:
        """Forget what belongs to a process: at the beginning, and in a forked child."""
        self._life = Lifetime(self._load, self.workers, inline=self.target.device == "cpu")
        self._lock = Lock()
        self._opened: Package | None = None
        self._stacking: Stacking | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        given = (self.file, str(self.target), self.warm_up, self.workers, self._asked)
        return _made_again, given

    @property
    def package(self) -> Package:
        """The package; nothing but its manifest is read.

        Raises:
            PackageError: The file cannot be read, or is no package.
        """
        with self._lock:
            if self._opened is None:
                self._opened = Package.open(self.file)
            return self._opened

    @property
    def name(self) -> str:
        """The model's name."""
        return self.package.name

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that are served: one, as another package is another service."""
        return _VERSIONS

    def metadata(self) -> dict[str, Any]:
        """Return the model's metadata as the Open Inference Protocol has it."""
        signature = self.package.signature
        return {
            "name": self.name,
            "versions": list(self.versions),
            "platform": _PLATFORM,
            "inputs": [oip.describe(spec) for spec in signature.inputs],
            "outputs": [oip.describe(spec) for spec in signature.outputs],
        }

    @property
    def ready(self) -> bool:
        """Whether it has started and takes requests."""
        return self._life.state is State.READY

    def start(self) -> None:
        """Open the package on its target and warm up; one that was drained or closed starts anew.

        Raises:
            EipackError: What `eipack.load` raises, or a call.
        """
        self._life.start()

    def _load(self) -> Session:
        package = self.package
        session = load(package, self.target, **self._asked)
        try:
            samples = package.samples()[0] if self.warm_up else ()
            for _ in range(self.warm_up):
                session.run_flat(*samples)
        except BaseException:
            session.close()
            raise
        return session

    def drain(self, within_s: float = 30.0) -> bool:
        """Take no more requests and wait for those that run; tell whether all have ended."""
        return self._life.drain(within_s)

    def close(self) -> None:
        """Take no more requests, and let go of the package and its target."""
        self._life.close()
        with self._lock:
            opened, stacking = self._opened, self._stacking
            self._opened = self._stacking = None
        if stacking is not None:
            stacking.stop()
        if opened is not None:
            opened.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.drain()
        self.close()

    def infer(self, inputs: Inputs) -> dict[str, Array]:
        """Run the model once: inputs and outputs are flat, by the signature's names.

        Raises:
            BadRequest: The inputs do not fit the signature.
            Unavailable: It drains or is closed, or its accelerator is overloaded or lost.
            EipackError: The model failed, or took too long.
        """
        return self._life.called(lambda session: by_name(session, inputs))

    async def ainfer(self, inputs: Inputs) -> dict[str, Array]:
        """Do what `infer` does without blocking the event loop for long.

        On the CPU, calls that usually take less than 1 ms run on the event loop itself.

        Raises what `infer` raises.
        """
        return await self._life.awaited(lambda session: by_name(session, inputs))

    def infer_batch(self, requests: Sequence[Inputs]) -> list[dict[str, Array]]:
        """Run several requests: as one where the rows are independent, else one after another.

        That they are is shown anew on this target, in the background, from the first time on.

        Raises what `infer` raises, for the first request that fails.
        """

        def run(session: Session) -> list[dict[str, Array]]:
            calls = [leaves_of(session, inputs) for inputs in requests]
            return [named(session, outputs) for outputs in self._stacker(session).run(calls)]

        return self._life.called(run)

    def _stacker(self, session: Session) -> Stacking:
        with self._lock:
            if self._stacking is None:
                self._stacking = Stacking(session)
            return self._stacking

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model with its own arguments; the result is nested as its own.

        Raises what `infer` raises.
        """
        return self._life.called(lambda session: session(*args, **kwargs))

    async def arun(self, work: Callable[[Session], _T]) -> _T:
        """Do some work with the session as `ainfer` does.

        Raises what `infer` raises, and what the work does.
        """
        return await self._life.awaited(work)

    def __repr__(self) -> str:
        return f"<PackageService {self.file!r} on {self.target}, {self._life.state.value}>"


def _made_again(
    file: str, target: str, warm_up: int, workers: int, asked: Mapping[str, Any]
) -> PackageService:
    return PackageService(file, target, warm_up=warm_up, workers=workers, **asked)


def _workers(target: Target, threads: int | None) -> int:
    """Return how many calls at once are worth it: what the processor has room for, if it is it."""
    if target.device not in ("cpu", "auto"):
        return _REMOTE_WORKERS if target.device == "eia" else 1
    return max(1, usable_cores() // threads) if threads else 1


_services: weakref.WeakSet[PackageService] = weakref.WeakSet()


def _start_anew() -> None:
    for service in list(_services):
        service._reset()


os.register_at_fork(after_in_child=_start_anew)
