"""A program on an attached accelerator, called like one on this machine."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from eipack.errors import (
    AcceleratorDenied,
    AcceleratorUnavailable,
    DeadlineExceeded,
    EipackError,
    ProgramNotFound,
    SessionClosed,
    UnsupportedModel,
)
from eipack_eia.client.infer import Timing
from eipack_eia.client.whereabouts import Whereabouts

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.backend import LoadOptions, ProgramReader
    from eipack_eia.attached import Attached
    from eipack_eia.client.whereabouts import Place

_TIMINGS: Final = 1000


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
        self._package, program = found
        self._options = options
        self._owner = os.getpid()
        self._calls: dict[str, int] = {}
        self.timings: deque[Timing] = deque(maxlen=_TIMINGS)
        self._where = Whereabouts(self._package, program, options, others)
        try:
            self._where.open(attached)
        except BaseException:
            self._package.close()
            raise

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run once over there.

        Raises:
            SessionClosed: The runner is closed.
            AcceleratorUnavailable: The accelerator was lost; whether it ran the call is not known.
            DeadlineExceeded: No answer came in time.
            AcceleratorOverloaded: Too much waits there; the call was not run.
        """
        if self._where.closed:
            raise SessionClosed("the session is closed; call eipack.load again")
        key = tuple([tensor.shape for tensor in inputs])
        remote = self._where.remote
        try:
            outputs, timing = remote.call(key, inputs)
        except (AcceleratorDenied, AcceleratorUnavailable, ProgramNotFound) as error:
            remote, (outputs, timing) = self._again(remote, key, inputs, error)
        except DeadlineExceeded:
            self._where.look_for(remote)
            raise
        self.timings.append(timing)
        where = remote.attached.id
        self._calls[where] = self._calls.get(where, 0) + 1
        return outputs

    def _again(
        self,
        remote: Place,
        key: Any,
        inputs: tuple[Tensor, ...],
        error: EipackError,
    ) -> tuple[Place, tuple[tuple[Tensor, ...], Timing]]:
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
                over = self._options.failover and self._where.fail_over(remote)
                over = over or ((left > 0 or not sent) and self._where.follow(remote))
                if sent or not over:
                    if not left:
                        raise error
                    left -= 1
            try:
                remote = self._where.remote
                if reopened:
                    _reopen(remote)
                return remote, remote.call(key, inputs)
            except (AcceleratorDenied, AcceleratorUnavailable, ProgramNotFound) as next_error:
                error = next_error

    def details(self) -> dict[str, Any]:
        """Say which accelerators ran how many calls, and where the last calls' time went."""
        attached = self._where.remote.attached
        timings = list(self.timings)
        found: dict[str, Any] = {
            "accelerator": attached.id,
            "endpoint": str(attached.endpoint),
            "calls": dict(self._calls),
            **self._where.remote.details(),
        }
        if timings:
            splits = [timing.split_ms() for timing in timings]
            found["round_trip_ms"] = median(timing.total_ns for timing in timings) / 1e6
            found |= {name: median(split[name] for split in splits) for name in splits[0]}
        return found

    def close(self) -> None:
        """End the session there, if it can be reached, and hang up."""
        if os.getpid() != self._owner:
            self._where.remote.forget()
            return
        self._where.close()
        self._package.close()


def _reopen(remote: Place) -> None:
    """Open a session anew for a call that was not run."""
    try:
        remote.open()
    except AcceleratorUnavailable as error:
        raise AcceleratorUnavailable(str(error), sent=False) from error
