"""An open loop: calls that arrive when they arrive, whether or not earlier ones are answered.

A caller that waits for an answer before it calls again calls less often just when the target is
slow, and so leaves out what it should have measured («coordinated omission»). Here arrivals are
drawn beforehand and a latency counts from the arrival, however long the call then waits.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import ceil, sqrt
from select import select
from threading import Event, Lock, Thread
from time import perf_counter_ns
from typing import Any, Final

from attrs import frozen

from eipack.measuring.offering_closed import Timed

Arguments = tuple[Sequence[Any], Mapping[str, Any]]

_NS_PER_S: Final = 1_000_000_000
_MOST_WORKERS: Final = 64
"""So many calls run at once; others wait here, as they would wait at the target, and it counts."""
_MOST_WARM: Final = 8
_DRAIN_NS: Final = 5 * _NS_PER_S
_SPIN_NS: Final = 200_000
"""A thread that sleeps wakes up to about so much too late; for the last of it, it stays awake."""
_PR_SET_TIMERSLACK: Final = 29


@frozen
class Arrived:
    """Calls in the order of their arrival; the last `unanswered` end when the run ended."""

    timed: Sequence[Timed]
    start_ns: int
    discarded: int
    unanswered: int


def poisson(
    rate_per_s: float, calls: int | None, duration_s: float | None, seed: int
) -> tuple[int, ...]:
    """Draw the arrivals of a Poisson process, in ns from its start: one at least.

    They are the first `calls`, or those within `duration_s`; with both, whichever are fewer. The
    gaps between them are exponential, with a mean of `1 / rate_per_s`.
    """
    import numpy as np

    most = calls or 0
    if duration_s is not None:
        expected = rate_per_s * duration_s
        # Ten deviations above what is expected: more arrive once in 10**23 runs.
        enough = ceil(expected + 10 * sqrt(expected) + 10)
        most = enough if calls is None else min(calls, enough)
    gaps = np.random.default_rng(seed).exponential(_NS_PER_S / rate_per_s, most)
    due = np.cumsum(gaps)
    if duration_s is not None:
        due = due[: max(1, int(np.searchsorted(due, duration_s * _NS_PER_S)))]
    return tuple(due.astype(np.int64).tolist())


class OpenLoop:
    """Threads of which one at a time waits for the next arrival, and then runs it itself.

    So nothing is handed over between an arrival and its call. Whoever waits has seen to it that
    another thread is there for the arrival after that.
    """

    def __init__(
        self, call: Callable[..., Any], arguments: Arguments, due_ns: Sequence[int]
    ) -> None:
        self._call = call
        self._args, self._kwargs = arguments
        self._due = due_ns
        self._ended = [0] * len(due_ns)
        self._next = 0
        self._start_ns = 0
        self._lock, self._leading = Lock(), Lock()
        self._threads: list[Thread] = []
        self._idle = self._alive = self._warming = 0
        self._ready, self._go, self._stopped, self._done = Event(), Event(), Event(), Event()
        self._error: BaseException | None = None

    def run(self, rate_per_s: float) -> Arrived:
        """Wait for the arrivals and their answers, as far as these come in time.

        Raises:
            Exception: What the call raised first.
        """
        try:
            discarded = self._warm_up(rate_per_s)
            self._start_ns = perf_counter_ns()
            self._go.set()
            self._done.wait((self._due[-1] + _DRAIN_NS) / _NS_PER_S)
            end_ns = perf_counter_ns()
        finally:
            self._end()
        if self._error is not None:
            raise self._error
        return self._found(end_ns, discarded)

    def _warm_up(self, rate_per_s: float) -> int:
        """Start as many threads as will be busy; each makes a call that does not count.

        By Little's law that is the rate times how long a call takes.
        """
        began = perf_counter_ns()
        self._call(*self._args, **self._kwargs)
        busy = rate_per_s * (perf_counter_ns() - began) / _NS_PER_S
        warm = self._warming = min(_MOST_WARM, ceil(busy) + 1)
        for _ in range(warm):
            self._grow(warm=True)
        self._ready.wait()
        return 1 + warm

    def _grow(self, *, warm: bool) -> None:
        thread = Thread(target=self._work, args=(warm,), daemon=True)
        with self._lock:
            self._alive += 1
        thread.start()
        self._threads.append(thread)

    def _end(self) -> None:
        """Let every thread end; a call that runs is waited for."""
        for event in (self._stopped, self._go):
            event.set()
        for thread in self._threads:  # a thread may still start one more, and ends after it
            thread.join()

    def _found(self, end_ns: int, discarded: int) -> Arrived:
        start, run = self._start_ns, self._next
        pairs = zip(self._due[:run], self._ended[:run], strict=True)
        answered = [(start + due, ended) for due, ended in pairs]
        waiting = [(start + due, max(end_ns, start + due)) for due in self._due[run:]]
        return Arrived([*answered, *waiting], start, discarded, len(waiting))

    def _work(self, warm: bool) -> None:  # noqa: FBT001 - a thread passes it by position
        try:
            _wake_in_time()
            if warm:
                self._first_call()
            while (position := self._take()) is not None:
                self._call(*self._args, **self._kwargs)
                self._ended[position] = perf_counter_ns()
        except BaseException as error:  # noqa: BLE001 - it is raised by `run`
            with self._lock:
                self._error = self._error or error
            for event in (self._stopped, self._ready, self._go, self._done):
                event.set()
        finally:
            with self._lock:
                self._alive -= 1
                if not self._alive:
                    self._done.set()

    def _first_call(self) -> None:
        self._call(*self._args, **self._kwargs)
        with self._lock:
            self._warming -= 1
            if not self._warming:
                self._ready.set()
        self._go.wait()

    def _take(self) -> int | None:
        """Wait for the next arrival and return its number; None if there is no more to do."""
        with self._lock:
            self._idle += 1
        with self._leading:
            with self._lock:
                self._idle -= 1
                alone = not self._idle
            position = self._next
            if position == len(self._due) or self._stopped.is_set():
                return None
            if alone and position + 1 < len(self._due) and len(self._threads) < _MOST_WORKERS:
                self._grow(warm=False)
            if not _reached(self._start_ns + self._due[position], self._stopped):
                return None
            self._next = position + 1
            return position


def _reached(due_ns: int, stopped: Event) -> bool:
    """Wait until then, to a few µs; return False at once if the run is stopped meanwhile."""
    while (left_ns := due_ns - perf_counter_ns()) > 0:
        if left_ns > _SPIN_NS:
            stopped.wait((left_ns - _SPIN_NS) / _NS_PER_S)
        else:
            select((), (), (), 0)  # lets other threads have the interpreter; sleep(0) sleeps
        if stopped.is_set():
            return False
    return not stopped.is_set()


def _wake_in_time() -> None:
    """Have Linux wake this thread when it asks to be; by default it takes 50 µs more leave."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
