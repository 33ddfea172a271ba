"""What `eipack eia attach ray://POOL` and sessions on such an accelerator ask of this plugin."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from eipack_eia.endpoint import Endpoint
from eipack_eia.lenders import Lent, Wanted

from eipack.errors import AcceleratorUnavailable, EipackError
from eipack_ray import attachment, client, keeper
from eipack_ray.attachment import Attachment
from eipack_ray.messages import Ask, Grant
from eipack_ray.renewing import Renewer, lost_for_good, renewed

if TYPE_CHECKING:
    from eipack_eia.attached import Attached, Files

_POLL_S: Final = 1.0


class RayLender:
    """Accelerators of pools that a Ray cluster keeps."""

    def __init__(self) -> None:
        self._renewer = Renewer()

    def take(self, pool: str, wanted: Wanted, files: Files) -> Lent:
        """Take a free accelerator of a pool, waiting for one if that was asked for.

        Raises:
            AcceleratorUnavailable: There is none, or no such pool.
            EipackError: The registry does not answer, or refuses this client.
        """
        registry, ray = client.locate(pool, wanted.address, files)
        ask = Ask(uuid4().hex, _name(), wanted.type, wanted.shared)
        grant = _granted(registry, files, ask, wanted.wait_s)
        found = Attachment(pool, ask.lease, ask.client, registry, grant.shared, ray)
        return Lent(grant.accelerator, grant.type, Endpoint.parse(grant.endpoint), str(found))

    def settled(self) -> None:
        """See to it that what is attached stays so while no session is open."""
        keeper.ensure()

    def find(self, one: Attached, timeout_s: float) -> Endpoint:
        """Return where an accelerator is now, or fail within that time.

        Raises:
            AcceleratorUnavailable: It is being placed anew, or is lent to another client.
            EipackError: The registry does not answer, or refuses this client.
        """
        found = attachment.of(one)
        registry = self._renewer.finder.at(found)
        try:
            held = [found.held(one.id)]
            standing = client.renew(registry, one.files, held, timeout_s)[found.lease]
        except EipackError:
            self._renewer.hurry()  # it may have to ask Ray for the registry, which takes longer
            raise
        if standing.lost:
            raise lost_for_good(one, standing.lost)
        if standing.endpoint is None:
            raise AcceleratorUnavailable(f"{one} is being started anew", sent=False, lost=False)
        return Endpoint.parse(standing.endpoint)

    def keep(self, one: Attached, lost: Callable[[str], None]) -> Callable[[], None]:
        """Renew the lease until the function that is returned is called.

        Raises:
            AcceleratorUnavailable: It is another client's by now.
            EipackError: An exclusive one cannot be confirmed.
        """
        return self._renewer.keep(one, lost)

    def give_back(self, one: Attached) -> None:
        """Give an accelerator back.

        Raises:
            EipackError: The registry does not answer; the lease then ends by itself.
        """
        found = attachment.of(one)
        with suppress(EipackError):  # learn where the registry is now
            renewed(self._renewer.finder, one)
        client.release(self._renewer.finder.at(found), one.files, found.lease)


def _granted(registry: Endpoint, files: Files, ask: Ask, wait_s: float) -> Grant:
    until = time.monotonic() + wait_s
    while True:
        answer = client.ask(registry, files, ask)
        if answer.grant is not None:
            return answer.grant
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise AcceleratorUnavailable(answer.why)
        time.sleep(min(_POLL_S, left_s))


def _name() -> str:
    """Say who this client is, for people who look at the pool."""
    return f"{os.environ.get('USER') or os.geteuid()}@{socket.gethostname()}"
