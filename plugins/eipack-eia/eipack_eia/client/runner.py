"""A program on an attached accelerator, called like one on this machine."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from statistics import median
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from eipack.errors import (
    AcceleratorDenied,
    AcceleratorUnavailable,
    EipackError,
    ProgramNotFound,
    SessionClosed,
    UnsupportedModel,
)
from eipack_eia.client.infer import Timing
from eipack_eia.client.remote import Remote

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.backend import LoadOptions, ProgramReader
    from eipack_eia.attached import Attached
    from eipack_eia.client.foreign import ForeignRemote

_TIMINGS: Final = 1000


class RemoteRunner:
    """Upload a package where it is not known yet, open a session there, and run on it.

    A request is sent once, unless `retries` allow more. A lost connection is an error; the next
    call connects again, and uploads again if the accelerator has forgotten the package. With
    `failover`, `others` names the accelerators that may take over.
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
        self._remote = self._at(attached)
        try:
            self._open()
        except BaseException:
            self._package.close()
            raise

    def _at(self, attached: Attached) -> Remote | ForeignRemote:
        kind: type[Remote | ForeignRemote] = Remote
        if attached.endpoint.foreign:
            from eipack_eia.client.foreign import ForeignRemote

            kind = ForeignRemote
        return kind(attached, self._package, self._program, self._options.deadline_ms)

    def _open(self) -> None:
        try:
            self._remote.open()
        except AcceleratorUnavailable as error:
            if not self._fail_over(self._remote):
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
        self.timings.append(timing)
        where = remote.attached.id
        self._calls[where] = self._calls.get(where, 0) + 1
        return outputs

    def _again(
        self,
        remote: Remote | ForeignRemote,
        key: Any,
        inputs: tuple[Tensor, ...],
        error: EipackError,
    ) -> tuple[Remote | ForeignRemote, tuple[tuple[Tensor, ...], Timing]]:
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
                over = self._options.failover and self._fail_over(remote)
                if getattr(error, "sent", True) or not over:
                    if not left:
                        raise error
                    left -= 1
            try:
                remote = self._remote
                if reopened:
                    remote.open()
                return remote, remote.call(key, inputs)
            except (AcceleratorDenied, AcceleratorUnavailable, ProgramNotFound) as next_error:
                error = next_error

    def _fail_over(self, lost: Remote | ForeignRemote) -> bool:
        """Go on with the next accelerator that takes the package, if one does."""
        if not self._options.failover:
            return False
        with self._lock:
            if self._remote is not lost:
                return True  # another thread has done it
            for attached in self._others():
                if attached.id == lost.attached.id:
                    continue
                remote = self._at(attached)
                try:
                    remote.open()
                except EipackError:
                    continue
                self._remote = remote
                lost.close()
                return True
        return False

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
        self._remote.close()
        self._package.close()
