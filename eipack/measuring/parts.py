"""Where the time of remote calls went: on the wire, waiting, or computing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

from eipack.measuring.report import Parts

if TYPE_CHECKING:
    from eipack.session import Session


class _Timing(Protocol):
    def split_ms(self) -> Mapping[str, float]:
        """Return `serialise_ms`, `network_ms`, `queue_ms` and `compute_ms` of one call."""


class _Timings(Protocol):
    """The last calls' timings, oldest first."""

    def clear(self) -> None: ...

    def copy(self) -> Iterable[_Timing]: ...


class Splitter:
    """Collect the parts of each call between `start` and `stop`, over as many turns as there are.

    A session on an accelerator notes the times of its last calls (`timings` of its runner), and
    `session.info.details` gives their medians. Reading them happens between the turns, so the
    timed calls pay for nothing. Of a turn, the last 1000 calls are seen.
    """

    def __init__(self, session: Session) -> None:
        self._timings: _Timings | None = getattr(session._runner, "timings", None)
        self._network_ms: list[float] = []
        self._queue_ms: list[float] = []
        self._compute_ms: list[float] = []

    def start(self) -> None:
        """Forget the calls so far, which belong to something else."""
        if self._timings is not None:
            self._timings.clear()

    def stop(self) -> None:
        """Note the calls since `start`."""
        if self._timings is None:
            return
        for timing in self._timings.copy():
            split: Mapping[str, Any] = timing.split_ms()
            # What the client's side of the wire takes is the wire's too.
            self._network_ms.append(split["network_ms"] + split["serialise_ms"])
            self._queue_ms.append(split["queue_ms"])
            self._compute_ms.append(split["compute_ms"])

    def parts(self) -> Parts | None:
        """Return the median of each part; None where no call was made elsewhere."""
        if not self._network_ms:
            return None
        return Parts(median(self._network_ms), median(self._queue_ms), median(self._compute_ms))
