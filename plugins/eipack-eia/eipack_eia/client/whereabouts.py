"""Where a session is: the accelerator that it uses now, and where it goes on if that is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock, Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import evolve

from eipack.errors import (
    AcceleratorDenied,
    AcceleratorUnavailable,
    DeadlineExceeded,
    EipackError,
    ProtocolError,
)
from eipack_eia.client.remote import Remote
from eipack_eia.client.suspended import Suspended
from eipack_eia.lenders import lender_of

if TYPE_CHECKING:
    from eipack.backend import LoadOptions
    from eipack.package import Package
    from eipack_eia.attached import Attached
    from eipack_eia.client.foreign import ForeignRemote
    from eipack_eia.lenders import Lender

    Place: TypeAlias = Remote | ForeignRemote | Suspended

_RECOVER_S: Final = 10.0
"""How long a call waits for a pool to start its accelerator anew, if its deadline is not sooner."""

_AGAIN_S: Final = 0.2
_ANSWER_S: Final = 3.0


class Whereabouts:
    """Open a program on an accelerator, or on another one that may take its place.

    The leases of those that a pool has lent are held until `close`. With `failover`, `others`
    names the accelerators that may take over.
    """

    remote: Place

    def __init__(
        self,
        package: Package,
        program: str,
        options: LoadOptions,
        others: Callable[[], Sequence[Attached]],
    ) -> None:
        self._package = package
        self._program = program
        self._options = options
        self._others = others
        self._lock = Lock()
        self._held: dict[str, Callable[[], None]] = {}
        self._looking = False
        self.closed = False

    def open(self, attached: Attached) -> None:
        """Open the program there, or where it may be instead.

        Raises:
            EipackError: It cannot be opened, or not in time.
        """
        try:
            self.remote = self._at(attached)
            self._begin()
        except BaseException:
            self._let_go()
            raise

    def _begin(self) -> None:
        try:
            self.remote.open()
        except AcceleratorUnavailable as error:
            lost = self.remote
            if not (self.fail_over(lost) or self.follow(lost)):
                raise error from error.__cause__

    def _at(self, attached: Attached) -> Remote | ForeignRemote:
        self._hold(attached)
        kind: type[Remote | ForeignRemote] = Remote
        if attached.endpoint.foreign:
            from eipack_eia.client.foreign import ForeignRemote

            kind = ForeignRemote
        return kind(attached, self._package, self._program, self._options.deadline_ms)

    def fail_over(self, lost: Place) -> bool:
        """Go on with the next accelerator that takes the package, if one does."""
        if not self._options.failover:
            return False
        with self._lock:
            if self.remote is not lost:
                return True  # another thread has done it
            for attached in self._others():
                if attached.id == lost.attached.id:
                    continue
                try:
                    remote = self._at(attached)
                    remote.open()
                except EipackError:
                    continue
                self.remote = remote
                lost.close()
                self._drop_if_closed(remote)
                return True
        return False

    def follow(self, lost: Place) -> bool:
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
            while self.remote is lost and not self.closed:
                found = self._found(lender, lost, until - monotonic())
                if found is not None:
                    self.remote = found
                    Thread(target=lost.close, daemon=True).start()  # it may not even refuse
                    self._drop_if_closed(found)
                elif monotonic() > until:
                    return False
                else:
                    sleep(_AGAIN_S)
            return True
        finally:
            self._lock.release()

    def _found(self, lender: Lender, lost: Place, left_s: float) -> Remote | ForeignRemote | None:
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

    def look_for(self, late: Place) -> None:
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
                    self.follow(late)
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
                lost = self.remote
                if lost.attached.id == attached.id and not isinstance(lost, Suspended):
                    self.remote = Suspended(lost.attached, why)
                    Thread(target=lost.close, daemon=True).start()

        self._held[attached.id] = lender.keep(attached, suspend)
        if self.closed:  # meanwhile, by another thread
            self._let_go()

    def _let_go(self) -> None:
        while self._held:
            self._held.popitem()[1]()

    def _drop_if_closed(self, found: Remote | ForeignRemote) -> None:
        """Close what was found while another thread closed the session."""
        if self.closed:
            found.close()

    def close(self) -> None:
        """End the session there, if it can be reached, and hang up."""
        self.closed = True
        self._let_go()
        self.remote.close()
