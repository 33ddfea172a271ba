"""A program on an attached accelerator, called like one on this machine."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from statistics import median
from threading import Lock, Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from eipack.errors import (
    AcceleratorDenied,
    AcceleratorUnavailable,
    DeadlineExceeded,
    EipackError,
    ProgramNotFound,
    ProtocolError,
    SessionClosed,
    UnsupportedModel,
)
from eipack_eia.client.infer import Timing
from eipack_eia.client.remote import Remote
from eipack_eia.client.suspended import Suspended
from eipack_eia.lenders import lender_of

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.backend import LoadOptions, ProgramReader
    from eipack_eia.attached import Attached
    from eipack_eia.client.foreign import ForeignRemote
    from eipack_eia.lenders import Lender

_TIMINGS: Final = 1000
_RECOVER_S: Final = 10.0
"""How long a call waits for a pool to start its accelerator anew, if its deadline is not sooner."""

_AGAIN_S: Final = 0.2
_ANSWER_S: Final = 3.0


class RemoteRunner:
    """Upload a package where it is not known yet, open a session there, and run on it.

    A request is sent once, unless `retries` allow more. A lost connection is an error; the next
    call connects again, and uploads again if the accelerator has forgotten the package. With
    `failover`, `others` names the accelerators that may take over.

    One that a pool has lent is looked for when it is lost: a call that it has certainly not run
    goes on where the pool has started it anew.
    """

    def __init__(
        self,
        reader: ProgramReader,
        attached: Attached,
        options: LoadOptions,
        others: Callable[[], Sequence[Attached]] = tuple,
    ) -> None:
        found = reader.package()
        if found is None:
            raise UnsupportedModel("an accelerator runs programs that are in a package")
        self._package, self._program = found
        self._options = options
        self._others = others
        self._lock = Lock()
        self._closed = False
        self._owner = os.getpid()
        self._calls: dict[str, int] = {}
        self.timings: deque[Timing] = deque(maxlen=_TIMINGS)
        self._held: dict[str, Callable[[], None]] = {}
        self._looking = False
        self._remote: Remote | ForeignRemote | Suspended
        try:
            self._remote = self._at(attached)
            self._open()
        except BaseException:
            self._let_go()
            self._package.close()
            raise

    def _at(self, attached: Attached) -> Remote | ForeignRemote:
        self._hold(attached)
        kind: type[Remote | ForeignRemote] = Remote
        if attached.endpoint.foreign:
            from eipack_eia.client.foreign import ForeignRemote

            kind = ForeignRemote
        return kind(attached, self._package, self._program, self._options.deadline_ms)

    def _open(self) -> None:
        try:
            self._remote.open()
        except AcceleratorUnavailable as error:
            lost = self._remote
            if not (self._fail_over(lost) or self._follow(lost)):
                raise error from error.__cause__

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run once over there.

        Raises:
            SessionClosed: The runner is closed.
            AcceleratorUnavailable: The accelerator was lost; whether it ran the call is not known.
            DeadlineExceeded: No answer came in time.
            AcceleratorOverloaded: Too much waits there; the call was not run.
        """
        if self._closed:
            raise SessionClosed("the session is closed; call eipack.load again")
        key = tuple([tensor.shape for tensor in inputs])
        remote = self._remote
        try:
            outputs, timing = remote.call(key, inputs)
        except (AcceleratorDenied, AcceleratorUnavailable, ProgramNotFound) as error:
            remote, (outputs, timing) = self._again(remote, key, inputs, error)
        except DeadlineExceeded:
            self._look_for(remote)
            raise
        self.timings.append(timing)
        where = remote.attached.id
        self._calls[where] = self._calls.get(where, 0) + 1
        return outputs

    def _again(
        self,
        remote: Remote | ForeignRemote | Suspended,
        key: Any,
        inputs: tuple[Tensor, ...],
        error: EipackError,
    ) -> tuple[Remote | ForeignRemote | Suspended, tuple[tuple[Tensor, ...], Timing]]:
        """Run a call again that was certainly not run, or that may be run twice."""
        left = self._options.retries
        reopened = False
        while True:
            # It has let the model go, or was started again with another token; it ran nothing.
            if isinstance(error, AcceleratorDenied | ProgramNotFound):
                if reopened:
                    raise error
                reopened = True
            else:
                sent = getattr(error, "sent", True)
                over = self._options.failover and self._fail_over(remote)
                over = over or ((left > 0 or not sent) and self._follow(remote))
                if sent or not over:
                    if not left:
                        raise error
                    left -= 1
            try:
                remote = self._remote
                if reopened:
                    _reopen(remote)
                return remote, remote.call(key, inputs)
            except (AcceleratorDenied, AcceleratorUnavailable, ProgramNotFound) as next_error:
                error = next_error

    def _fail_over(self, lost: Remote | ForeignRemote | Suspended) -> bool:
        """Go on with the next accelerator that takes the package, if one does."""
        if not self._options.failover:
            return False
        with self._lock:
            if self._remote is not lost:
                return True  # another thread has done it
            for attached in self._others():
                if attached.id == lost.attached.id:
                    continue
                try:
                    remote = self._at(attached)
                    remote.open()
                except EipackError:
                    continue
                self._remote = remote
                lost.close()
                return True
        return False

    def _follow(self, lost: Remote | ForeignRemote | Suspended) -> bool:
        """Go on where the pool that has lent the accelerator has it now, if it comes back in time.

        Raises:
            AcceleratorUnavailable: The pool has lent it to another client.
        """
        lender = lender_of(lost.attached)
        deadline_ms = self._options.deadline_ms
        patience_s = min(_RECOVER_S, (deadline_ms or 1000 * _RECOVER_S) / 1000)
        until = monotonic() + patience_s
        if lender is None or not self._lock.acquire(timeout=patience_s):
            return False
        try:
            while self._remote is lost and not self._closed:
                found = self._found(lender, lost, until - monotonic())
                if found is not None:
                    self._remote = found
                    Thread(target=lost.close, daemon=True).start()  # it may not even refuse
                elif monotonic() > until:
                    return False
                else:
                    sleep(_AGAIN_S)
            return True
        finally:
            self._lock.release()

    def _found(
        self, lender: Lender, lost: Remote | ForeignRemote | Suspended, left_s: float
    ) -> Remote | ForeignRemote | None:
        """Open a session where a pool has an accelerator now; None if that fails for now."""
        try:
            endpoint = lender.find(lost.attached, max(_AGAIN_S, min(_ANSWER_S, left_s)))
        except EipackError as error:
            if getattr(error, "lost", False):
                raise
            if isinstance(lost, Suspended):
                return None  # only its lender may say that it is ours
            endpoint = lost.attached.endpoint
        remote = self._at(evolve(lost.attached, endpoint=endpoint))
        try:
            remote.open()
        except (AcceleratorDenied, AcceleratorUnavailable, DeadlineExceeded, ProtocolError):
            return None
        return remote

    def _look_for(self, late: Remote | ForeignRemote | Suspended) -> None:
        """Find out, beside the calls, whether a lent accelerator that was late is elsewhere now.

        A host that is gone does not hang up, and only its pool knows.
        """
        lender = lender_of(late.attached)
        if lender is None or self._looking:
            return
        self._looking = True

        def look() -> None:
            try:
                if lender.find(late.attached, _ANSWER_S) != late.attached.endpoint:
                    self._follow(late)
            except EipackError:
                return  # the next call meets it
            finally:
                self._looking = False

        Thread(target=look, name="eia-look", daemon=True).start()

    def _hold(self, attached: Attached) -> None:
        """Keep the lease of an accelerator that a pool has lent, for as long as this is open."""
        lender = lender_of(attached)
        if lender is None or attached.id in self._held:
            return

        def suspend(why: str) -> None:
            with self._lock:
                lost = self._remote
                if lost.attached.id == attached.id and not isinstance(lost, Suspended):
                    self._remote = Suspended(lost.attached, why)
                    Thread(target=lost.close, daemon=True).start()

        self._held[attached.id] = lender.keep(attached, suspend)

    def _let_go(self) -> None:
        while self._held:
            self._held.popitem()[1]()

    def details(self) -> dict[str, Any]:
        """Say which accelerators ran how many calls, and where the last calls' time went."""
        attached = self._remote.attached
        timings = list(self.timings)
        found: dict[str, Any] = {
            "accelerator": attached.id,
            "endpoint": str(attached.endpoint),
            "calls": dict(self._calls),
            **self._remote.details(),
        }
        if timings:
            splits = [timing.split_ms() for timing in timings]
            found["round_trip_ms"] = median(timing.total_ns for timing in timings) / 1e6
            found |= {name: median(split[name] for split in splits) for name in splits[0]}
        return found

    def close(self) -> None:
        """End the session there, if it can be reached, and hang up."""
        if os.getpid() != self._owner:
            self._remote.forget()
            return
        self._closed = True
        self._let_go()
        self._remote.close()
        self._package.close()


def _reopen(remote: Remote | ForeignRemote | Suspended) -> None:
    """Open a session anew for a call that was not run."""
    try:
        remote.open()
    except AcceleratorUnavailable as error:
        raise AcceleratorUnavailable(str(error), sent=False) from error
