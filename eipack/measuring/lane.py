"""One program on one target, while it is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from attrs import frozen

from eipack.backend import Precision
from eipack.errors import (
    BackendError,
    DependencyMissing,
    EipackError,
    PackageChanged,
    ParityFailed,
    ProgramNotFound,
)
from eipack.measuring.environment import manifest_digest
from eipack.measuring.loop import time_calls
from eipack.measuring.report import NS_PER_MS, Row, mean_ms, percentile_ms
from eipack.target import Target

if TYPE_CHECKING:
    from eipack.package import Package
    from eipack.session import Session
    from eipack.trust import Trust

Arguments = tuple[Sequence[Any], Mapping[str, Any]]

_THIS_LANE_ALONE = (BackendError, DependencyMissing, ParityFailed, ProgramNotFound)
"""What speaks of a target or a program; any other error speaks of the package or the caller."""
_WARM_UP_CALLS = 20
_WARM_UP_NS = 1_000_000_000


@frozen
class Asked:
    """What every lane's session is asked for, as `eipack.load` takes it."""

    precision: Precision = "float32"
    threads: int | None = None
    options: Mapping[str, Mapping[str, Any]] | None = None


class Lane:
    """Load, check, warm up and time one program; a failure ends the lane and no other."""

    def __init__(self, target: Target, program: str | None, asked: Asked) -> None:
        self.target = target
        self._asked = asked
        self.failure: EipackError | None = None
        self.samples: list[int] = []
        self.typical_ns = 0.0
        self._program = program
        self._session: Session | None = None
        self._device = ""
        self._load_ns = 0
        self._first_ns = 0
        self._discarded = 0

    def enter(self, package: Package, arguments: Arguments, trust: Trust) -> None:
        """Load from the file anew, make the first call, and hold the outputs to the recorded ones.

        Raises:
            PackageChanged: The file is not the package any more.
        """
        try:
            self._session = self._load(package, trust)
            self._first_ns = time_calls(self._session, *arguments, 1)[0]
            if self._session.info.loss is None:  # else it was held to its precision's already
                self._check(package, self._session)
        except _THIS_LANE_ALONE as error:
            self.failure = error

    def _load(self, package: Package, trust: Trust) -> Session:
        from eipack.loading import load
        from eipack.registry import is_auto, locate
        from eipack.tuning.choosing import default_of

        # Importing a plugin and its engine is no part of loading a package.
        plugin, place = locate(default_of(self.target) if is_auto(self.target) else self.target)
        names = {device.target: device.name for device in plugin.devices()}
        self._device = names.get(place, "")
        start = perf_counter_ns()
        session = load(
            package.path,
            self.target,
            program=self._program,
            trust=trust,
            precision=self._asked.precision,
            threads=self._asked.threads,
            options=self._asked.options,
        )
        self._load_ns = perf_counter_ns() - start
        if manifest_digest(session.package) != manifest_digest(package):
            session.close()
            raise PackageChanged(f"{package.path} is another package now; benchmark it again")
        return session

    def _check(self, package: Package, session: Session) -> None:
        from eipack.parity.tolerance import compare
        from eipack.tree import flatten

        inputs, expected = package.samples()
        args, kwargs = package.signature.nest(inputs)
        actual = flatten(package.signature.output_tree, session(*args, **kwargs))
        self._discarded += 1
        for spec, want, got in zip(package.signature.outputs, expected, actual, strict=True):
            difference = compare(want, got)
            if not difference.agrees:
                reason = difference.reason or f"it differs by {difference.max_abs:.3g}"
                raise ParityFailed(
                    f"output {spec.name!r} of {session.program.id} on {session.target} is not the "
                    f"recorded one: {reason}",
                    output=spec.name,
                    max_abs=difference.max_abs,
                )

    def warm_up(self, arguments: Arguments, calls: int) -> None:
        """Make up to 20 calls, or as many as 1 s and `calls` allow, that do not count."""
        spent: list[int] = []
        while sum(spent) < _WARM_UP_NS and len(spent) < min(calls, _WARM_UP_CALLS):
            timed = self._time(arguments, 1)
            if not timed:
                return
            spent += timed
        self._discarded += len(spent)
        self.typical_ns = median(spent)

    def take_turn(self, arguments: Arguments, count: int, *, lead_in: bool) -> None:
        """Time `count` calls, after one that does not count where a lead-in is wanted."""
        if lead_in:
            self._discarded += len(self._time(arguments, 1))
        self.samples += self._time(arguments, count)

    def _time(self, arguments: Arguments, count: int) -> list[int]:
        if self._session is None or self.failure is not None:
            return []
        try:
            return time_calls(self._session, *arguments, count)
        except _THIS_LANE_ALONE as error:
            self.failure = error
            return []

    def leave(self) -> None:
        """Close the session."""
        if self._session is not None:
            self._session.close()

    def row(self) -> Row:
        """Return what was found."""
        if self.failure is not None or self._session is None:
            return Row(str(self.target), self._program, error=str(self.failure))
        record = self._session.program
        return Row(
            target=str(self.target),
            program=record.id,
            ran_on=str(self._session.target),
            device=self._device,
            kind=record.kind,
            method=record.method,
            calls=len(self.samples),
            discarded=self._discarded,
            load_ms=self._load_ns / NS_PER_MS,
            first_ms=self._first_ns / NS_PER_MS,
            precision=self._asked.precision,
            threads=self._session.info.threads,
            loss=None if self._session.info.loss is None else self._session.info.loss.relative,
            samples_ns=tuple(self.samples),
            mean_ms=mean_ms(self.samples),
            p50_ms=percentile_ms(self.samples, 50),
            p90_ms=percentile_ms(self.samples, 90),
            p95_ms=percentile_ms(self.samples, 95),
        )
