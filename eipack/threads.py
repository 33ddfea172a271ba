"""How many threads calls use: one policy for all sessions of a process.

Engines bring thread pools of their own, and sessions that run side by side would put several
threads on each core. So every session says how many threads a call of its takes, and calls
begin only while the sum is within the cores that this process may use; a call that does not
fit waits for one that runs. A single call always begins.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from threading import Condition, Lock
from types import TracebackType
from typing import Final

_QUOTAS: Final = (
    (Path("/sys/fs/cgroup/cpu.max"), None),
    (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")),
)


def usable_cores() -> int:
    """Return how many cores this process may use: by its affinity, and its cgroup's quota.

    `EIPACK_THREADS` sets it to less or more.
    """
    said = os.environ.get("EIPACK_THREADS", "")
    if said.isascii() and said.isdigit() and int(said):
        return int(said)
    allowed = len(os.sched_getaffinity(0))
    quota = _quota()
    return allowed if quota is None else max(1, min(allowed, math.floor(quota + 0.5)))


def _quota() -> float | None:
    """Return the cgroup's quota of processor time in cores; None where there is none."""
    for path, period in _QUOTAS:
        try:
            words = path.read_text(encoding="ascii").split()
            words += period.read_text(encoding="ascii").split() if period else []
            quota, per = float(words[0]), float(words[1])
        except (OSError, ValueError, IndexError):
            continue
        return quota / per if quota > 0 and per > 0 else None
    return None


class Gate:
    """Let calls in while their threads fit; safe between threads, not to be entered twice by one.

    `limit` threads at once, or one call of any size.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = Lock()
        self._room = Condition(self._lock)
        self._running = 0
        self._waiting = 0

    def enter(self, threads: int) -> None:
        """Wait until a call of so many threads may begin, and count it."""
        with self._lock:
            if self._running and self._running + threads > self.limit:
                self._waiting += 1
                while self._running and self._running + threads > self.limit:
                    self._room.wait()
                self._waiting -= 1
            self._running += threads

    def leave(self, threads: int) -> None:
        """Tell that a call of so many threads has ended."""
        with self._lock:
            self._running -= threads
            if self._waiting:
                self._room.notify_all()

    def pass_(self, threads: int) -> Passage:
        """Return a context for one session's calls, to be entered by any number of threads."""
        return Passage(self, threads)


class Passage:
    """The way of one session's calls through a gate."""

    def __init__(self, gate: Gate, threads: int) -> None:
        self._gate = gate
        self._threads = threads

    def __enter__(self) -> None:
        self._gate.enter(self._threads)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._gate.leave(self._threads)


gate: Final = Gate(usable_cores())
"""The one that the sessions of this process pass."""


def _renew() -> None:
    """In a forked child, forget the calls of the parent's threads, which do not exist there."""
    gate.__init__(gate.limit)  # type: ignore[misc] # the sessions there hold this very object


os.register_at_fork(after_in_child=_renew)
