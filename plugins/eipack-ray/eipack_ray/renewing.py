"""Leases are renewed for as long as a session is open, by one thread of its process.

A lease that could not be renewed in its time may be another client's by now. An exclusive one is
then lost to the session, until the registry says that it is still, or again, its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from threading import Condition, Thread
from typing import TYPE_CHECKING, Final

from attrs import define, field
from eipack_eia.attached import Attached

from eipack.errors import AcceleratorUnavailable, EipackError
from eipack_ray import attachment
from eipack_ray.client import Finder

if TYPE_CHECKING:
    from eipack_ray.messages import Standing

TURNS: Final = 4
"""How often a lease is renewed before it would end."""

_FIRST_S: Final = 1.0
Lost = Callable[[str], None]


@define(eq=False)
class _Kept:
    one: Attached
    lost: Lost
    renewed: float
    lease_s: float | None = None


@define
class Renewer:
    """The leases of this process."""

    finder: Finder = field(factory=Finder)
    _kept: list[_Kept] = field(factory=list, init=False)
    _changed: Condition = field(factory=Condition, init=False)
    _thread: Thread | None = field(default=None, init=False)

    def keep(self, one: Attached, lost: Lost) -> Callable[[], None]:
        """Renew a lease now, and until the function that is returned is called.

        Raises:
            AcceleratorUnavailable: The accelerator is another client's by now.
            EipackError: The registry does not confirm that an exclusive one is not.
        """
        kept = _Kept(one, lost, time.monotonic())
        self._confirm(kept)
        with self._changed:
            self._kept.append(kept)
            if self._thread is None or not self._thread.is_alive():  # a fork has none
                self._thread = Thread(target=self._run, name="eia-pool", daemon=True)
                self._thread.start()
            self._changed.notify()

        def stop() -> None:
            with self._changed:
                self._kept = [each for each in self._kept if each is not kept]
                self._changed.notify()

        return stop

    def _confirm(self, kept: _Kept) -> None:
        try:
            standing = renewed(self.finder, kept.one)
        except EipackError:
            if attachment.of(kept.one).shared:
                return
            raise
        if standing.lost:
            raise lost_for_good(kept.one, standing.lost)
        kept.lease_s = standing.lease_s

    def hurry(self) -> None:
        """Renew at once, rather than in a while."""
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._kept:
                    self._thread = None
                    return
                kept = list(self._kept)
            for each in kept:
                self._renew(each)
            with self._changed:
                if self._kept == kept:
                    self._changed.wait(pause_s(each.lease_s for each in kept))

    def _renew(self, kept: _Kept) -> None:
        began = time.monotonic()
        try:
            standing = renewed(self.finder, kept.one)
        except EipackError as error:
            self._not_renewed(kept, error)
            return
        if standing.lost:
            kept.lost(standing.lost)
        else:
            kept.renewed, kept.lease_s = began, standing.lease_s

    def _not_renewed(self, kept: _Kept, error: EipackError) -> None:
        if kept.lease_s is None or attachment.of(kept.one).shared:
            return
        if time.monotonic() - kept.renewed > kept.lease_s:
            kept.lost(f"its lease could not be renewed for {kept.lease_s:g} s ({error})")


def renewed(finder: Finder, one: Attached) -> Standing:
    """Renew the lease of one accelerator, and learn where it is.

    Raises:
        EipackError: The registry does not answer, or refuses this client.
    """
    found = attachment.of(one)
    return finder.renew(found, one.files, [found.held(one.id)])[found.lease]


def lost_for_good(one: Attached, why: str) -> AcceleratorUnavailable:
    """Return the error of one that another client has by now; nothing was sent to it."""
    pool = attachment.of(one).pool
    return AcceleratorUnavailable(
        f"{one} is lost: {why}; attach another: eipack eia detach {one.ordinal}, "
        f"eipack eia attach ray://{pool}",
        sent=False,
        lost=True,
    )


def pause_s(leases_s: Iterable[float | None]) -> float:
    """Return how long to wait between renewals."""
    known = [lease_s for lease_s in leases_s if lease_s is not None]
    return min(known) / TURNS if known else _FIRST_S
