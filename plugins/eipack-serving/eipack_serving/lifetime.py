"""From the first call to the last: one session a process, calls counted, drained and closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from enum import Enum
from threading import Condition, Lock
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final, TypeVar

from eipack_serving.failures import Unavailable, answering

if TYPE_CHECKING:
    from eipack.session import Session

_T = TypeVar("_T")
_QUICK_NS: Final = 1_000_000
"""Calls that usually take less run on the event loop itself: a thread costs about 0.1 ms."""
_WEIGHT: Final = 0.1


class State(Enum):
    """Where a service is in its life."""

    NEW = "not started"
    READY = "ready"
    DRAINING = "draining"
    CLOSED = "closed"


class Lifetime:
    """Open a session at the first call, and close it after the last; safe between threads.

    `workers` threads run what is awaited; with `inline`, calls that have shown to be quick run on
    the event loop in their place.
    """

    def __init__(self, load: Callable[[], Session], workers: int, *, inline: bool = False) -> None:
        self.state = State.NEW
        self._load = load
        self._workers = workers
        self._inline = inline
        self._usual_ns = float("inf")
        self._session: Session | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._running = 0
        self._opening = Lock()
        self._idle = Condition(Lock())

    def start(self) -> None:
        """Open the session and take calls, again if it was drained or closed.

        Raises:
            EipackError: What loading raises.
        """
        with self._opening:
            if self.state is not State.READY:
                self._begin()

    def _start_if_new(self) -> None:
        with self._opening:
            if self.state is State.NEW:
                with answering():
                    self._begin()

    def _begin(self) -> None:
        session = self._session or self._load()
        with self._idle:
            self._session = session
            self.state = State.READY

    def drain(self, within_s: float) -> bool:
        """Take no more calls and wait for those that run; tell whether all have ended."""
        with self._idle:
            if self.state is not State.CLOSED:
                self.state = State.DRAINING
            return self._idle.wait_for(lambda: not self._running, within_s)

    def close(self) -> None:
        """Take no more calls; close the session when those that wait for a thread are done."""
        with self._opening, self._idle:
            self.state = State.CLOSED
            executor, session = self._executor, self._session
            self._executor = self._session = None
        if executor is not None:
            executor.shutdown(wait=True)
        if session is not None:
            session.close()

    def called(self, run: Callable[[Session], _T]) -> _T:
        """Run a call on this thread.

        Raises:
            BadRequest: The inputs do not fit.
            Unavailable: No calls are taken, or the accelerator takes none.
            EipackError: The call failed.
        """
        session = self._enter()
        try:
            with answering():
                return run(session)
        finally:
            self._leave()

    async def awaited(self, run: Callable[[Session], _T]) -> _T:
        """Run a call beside the event loop, or on it if it is quick.

        Raises what `called` raises.
        """
        if self.state is State.NEW:
            await asyncio.wrap_future(self._threads().submit(self._start_if_new))
        if self._inline and self._usual_ns < _QUICK_NS:
            return self.called(lambda session: self._timed(run, session))
        session = self._enter()
        try:
            future: Future[_T] = self._threads().submit(self._timed, run, session)
        except BaseException:
            self._leave()
            raise
        future.add_done_callback(self._leave)  # whoever waits may be gone before the call ends
        with answering():
            return await asyncio.wrap_future(future)

    def _timed(self, run: Callable[[Session], _T], session: Session) -> _T:
        began_ns = perf_counter_ns()
        try:
            return run(session)
        finally:
            took_ns, usual_ns = perf_counter_ns() - began_ns, self._usual_ns
            first = usual_ns == float("inf")
            self._usual_ns = took_ns if first else usual_ns + _WEIGHT * (took_ns - usual_ns)

    def _enter(self) -> Session:
        """Count a call, so that `drain` waits for it."""
        if self.state is State.NEW:
            self._start_if_new()
        with self._idle:
            if self.state is State.READY and self._session is not None:
                self._running += 1
                return self._session
        raise self._refusal()

    def _leave(self, _: object = None) -> None:
        with self._idle:
            self._running -= 1
            if not self._running:
                self._idle.notify_all()

    def _threads(self) -> ThreadPoolExecutor:
        with self._idle:
            if self.state is State.CLOSED:
                raise self._refusal()
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._workers, "eipack-service")
            return self._executor

    def _refusal(self) -> Unavailable:
        return Unavailable(f"the service is {self.state.value}; send the request to another one")
