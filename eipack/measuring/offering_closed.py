"""A closed loop: callers of whom each calls again as soon as it is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from threading import Event, Lock, Thread
from time import perf_counter_ns
from typing import Any

Arguments = tuple[Sequence[Any], Mapping[str, Any]]
Timed = tuple[int, int]
"""When a call began and when it was answered, by the clock of `perf_counter_ns`."""


def repeat(
    call: Callable[..., Any],
    arguments: Arguments,
    tickets: count[int],
    calls: int | None,
    end_ns: int | None,
    stopped: Event,
) -> list[Timed]:
    """Call again as soon as the last call is answered, until tickets or time are used up.

    Callers who share `tickets` make `calls` together; the first ticket is good at any time.
    """
    timed: list[Timed] = []
    add, clock, is_stopped = timed.append, perf_counter_ns, stopped.is_set
    args, kwargs = arguments
    while not is_stopped():
        number = next(tickets)
        if calls is not None and number >= calls:
            break
        if end_ns is not None and number and clock() >= end_ns:
            break
        began = clock()
        call(*args, **kwargs)
        add((began, clock()))
    return timed


class ClosedLoop:
    """Several callers at once, each of which calls again as soon as it is answered."""

    def __init__(
        self,
        call: Callable[..., Any],
        arguments: Arguments,
        concurrency: int,
        calls: int | None,
        limit_ns: int | None,
    ) -> None:
        self._call, self._arguments = call, arguments
        self._calls, self._limit_ns = calls, limit_ns
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(concurrency)]
        self._tickets = count()
        self._lock = Lock()
        self._waiting = self._alive = concurrency
        self._ready, self._go, self._stopped, self._done = Event(), Event(), Event(), Event()
        self._end_ns: int | None = None
        self._timed: list[list[Timed]] = []
        self._error: BaseException | None = None

    def run(self) -> tuple[list[Timed], int]:
        """Start the callers together; return their calls, in no order, and when they started.

        Raises:
            Exception: What the call raised first.
        """
        try:
            for thread in self._threads:
                thread.start()
            self._ready.wait()
            start_ns = perf_counter_ns()
            self._end_ns = None if self._limit_ns is None else start_ns + self._limit_ns
            self._go.set()
            self._done.wait()  # an interrupted join of Python 3.11 takes the thread for ended
        finally:
            self._end()
        if self._error is not None:
            raise self._error
        return [one for each in self._timed for one in each], start_ns

    def _end(self) -> None:
        """Let every thread that was started end; a call that runs is waited for."""
        self._stopped.set()
        self._go.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _work(self) -> None:
        try:
            self._call(*self._arguments[0], **self._arguments[1])
            with self._lock:
                self._waiting -= 1
                if not self._waiting:
                    self._ready.set()
            self._go.wait()
            timed = repeat(
                self._call,
                self._arguments,
                self._tickets,
                self._calls,
                self._end_ns,
                self._stopped,
            )
            self._timed.append(timed)
        except BaseException as error:  # noqa: BLE001 - it is raised by `run`
            with self._lock:
                self._error = self._error or error
            self._stopped.set()
            self._ready.set()
        finally:
            with self._lock:
                self._alive -= 1
                if not self._alive:
                    self._done.set()
