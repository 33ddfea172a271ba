"""A program on a target, as a run sees it: started, opened, asked, and lost where it fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import perf_counter_ns
from typing import Any, Final

from attrs import asdict, define, field, frozen

from eipack.backend import Precision
from eipack.children import Child, Lost
from eipack.errors import (
    PackageChanged,
    PackageError,
    ProgramNotFound,
    SignatureMismatch,
    TrustError,
)
from eipack.measuring.given import Given
from eipack.measuring.here import Host
from eipack.measuring.scenario import Scenario
from eipack.target import Target
from eipack.trust import Trust

PATIENCE_S: Final = 60.0
"""What an answer may take beyond the time that its calls need."""
_CLOSE_S: Final = 5.0
_OF_ALL: Final = (PackageError, SignatureMismatch, TrustError)
"""What speaks of the package or the caller; any other error speaks of a target or a program."""


@frozen
class Asked:
    """What every session is asked for, as `eipack.load` takes it, and the inputs of its calls."""

    package: str
    digest: str
    inputs: Given = None
    trust: Trust | list[str] = None
    precision: Precision = "float32"
    threads: int | None = None
    options: dict[str, Any] | None = None
    load_limit_s: float = PATIENCE_S


@frozen
class Origin:
    """What a session said of itself once it was open."""

    ran_on: str
    device: str
    accelerator: str | None
    program: str
    kind: str
    method: str
    threads: int | None
    loss: float | None
    digest: str
    input_bytes: int
    torch: str
    torch_threads: int
    cuda: str | None


@define(eq=False)
class Entrant:
    """One program on one target, and the process that it has, which ends with its first crash."""

    target: Target
    program: str | None
    host: Host | None = None
    lost: Lost | None = None
    origin: Origin | None = None
    cold_start_ms: float | None = None
    load_ms: float | None = None
    first_ms: float | None = None
    scenarios: Sequence[Scenario] = field(factory=tuple)

    def enter(self, start: Callable[[], Host], asked: Asked, scenarios: Sequence[Scenario]) -> None:
        """Start the process, load the package, make the first call, and check what it gives.

        Raises:
            EipackError: The package is at fault, or is not the same one any more.
        """
        self.host = start()
        self.scenarios = scenarios
        with suppress(Lost):
            self._open(asked)
        if self.origin is not None and self.origin.digest != asked.digest:
            raise PackageChanged(f"{asked.package} is another package now; benchmark it again")

    def _open(self, asked: Asked) -> None:
        try:
            opened = self.ask(
                "open",
                asked.load_limit_s,
                package=asked.package,
                target=str(self.target),
                program=self.program,
                inputs=asked.inputs,
                trust=asked.trust,
                precision=asked.precision,
                threads=asked.threads,
                options=asked.options,
                scenarios=[asdict(one) for one in self.scenarios],
            )
            if isinstance(self.host, Child):
                self.cold_start_ms = (perf_counter_ns() - self.host.began_ns) / 1e6
            self.load_ms, self.first_ms = opened["load_ns"] / 1e6, opened["first_ns"] / 1e6
            _warn(opened.get("not_tuned", ()))
            limit_s = PATIENCE_S + 10 * self.first_ms / 1e3
            self.origin = Origin(**self.ask("describe", limit_s))
        except Lost as lost:
            self.lost = lost
            self.end()  # so that it takes nothing from the others
            raise

    def ask(self, do: str, within_s: float, **asked: Any) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises:
            Lost: It fails, or the process is gone.
            EipackError: The package or the caller is at fault, and so every row would fail.
        """
        if self.lost is not None or self.host is None:
            raise self.lost or Lost("failed", "nothing is open")
        try:
            return self.host.call(do, within_s, **asked)
        except Lost as lost:
            if isinstance(lost.error, _OF_ALL) and not isinstance(lost.error, ProgramNotFound):
                raise lost.error from lost
            if lost.over:
                self.lost = lost
                self.host.end()
            raise

    def leave(self) -> None:
        """Close the session, so that an accelerator hears of it; then end the process."""
        with suppress(Lost):
            self.ask("close", _CLOSE_S)
        self.end()

    def end(self) -> None:
        """End the process, whatever it does."""
        if self.host is not None:
            self.host.end()
            self.host = None


def _warn(not_tuned: Sequence[str]) -> None:
    """Give the warnings of another process in this one."""
    from eipack.tuning.choosing import NotTuned

    for text in not_tuned:
        warnings.warn(text, NotTuned, stacklevel=2)
