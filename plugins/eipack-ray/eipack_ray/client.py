"""A client's side of a pool: asking its registry, and finding it again if it has moved.

No process that runs models becomes a driver of Ray: where Ray has to be asked, a process of its
own does it, which takes some seconds.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import msgspec
from eipack_eia.client.control import Control
from eipack_eia.endpoint import Endpoint

from eipack.errors import AcceleratorError, AcceleratorUnavailable, DeadlineExceeded, ProtocolError
from eipack_ray import messages
from eipack_ray.attachment import Attachment
from eipack_ray.messages import Answer, Held, Pool, Release, Renewal, Renewed, Standing

if TYPE_CHECKING:
    from eipack_eia.attached import Files

TIMEOUT_S: Final = 3.0
_FIND_S: Final = 60.0
_FIND_AGAIN_S: Final = 20.0


def ask(registry: Endpoint, files: Files, wish: messages.Ask) -> Answer:
    """Ask for an accelerator.

    Raises:
        EipackError: The registry does not answer, or refuses this client.
    """
    said = _control(registry, files).json("POST", messages.LEASE, wish)
    return messages.read(said, Answer)


def renew(
    registry: Endpoint, files: Files, held: Sequence[Held], timeout_s: float = TIMEOUT_S
) -> dict[str, Standing]:
    """Renew leases, and learn where their accelerators are.

    Raises:
        EipackError: As for `ask`.
    """
    control = _control(registry, files, timeout_s)
    said = control.json("POST", messages.RENEW, Renewal(list(held)))
    return messages.read(said, Renewed).leases


def release(registry: Endpoint, files: Files, lease: str) -> None:
    """Give a lease back.

    Raises:
        EipackError: As for `ask`.
    """
    _control(registry, files).json("POST", messages.RELEASE, Release([lease]))


def describe(registry: Endpoint, files: Files) -> Pool:
    """Ask for the description of the pool.

    Raises:
        EipackError: As for `ask`; ProtocolError where another server answers.
    """
    return messages.read(_control(registry, files).json("GET", messages.POOL), Pool)


def _control(registry: Endpoint, files: Files, timeout_s: float = TIMEOUT_S) -> Control:
    return Control(registry, files.credentials(registry), timeout_s)


def find(pool: str, address: str) -> Endpoint:
    """Ask a Ray cluster where the registry of a pool is.

    Raises:
        AcceleratorUnavailable: The cluster does not answer, or has no such pool.
    """
    command = [sys.executable, "-m", "eipack_ray.finding", pool, address]
    try:
        done = subprocess.run(  # noqa: S603 - this very Python
            command, check=False, capture_output=True, text=True, timeout=_FIND_S
        )
    except subprocess.TimeoutExpired as error:
        raise AcceleratorUnavailable(
            f"the Ray cluster at {address} does not answer within {_FIND_S:g} s"
        ) from error
    lines = done.stdout.strip().splitlines()
    try:
        said: dict[str, Any] = msgspec.json.decode(lines[-1] if lines else "")
        if "error" in said:
            raise AcceleratorUnavailable(str(said["error"]))
        return Endpoint.parse(said["registry"])
    except (msgspec.MsgspecError, KeyError) as error:
        told = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise AcceleratorUnavailable(
            f"the Ray cluster at {address} cannot be asked for pool {pool}: {told[:200]}"
        ) from error


def locate(pool: str, address: str, files: Files) -> tuple[Endpoint, str | None]:
    """Find a pool's registry, and the Ray cluster to find it by again, if there is one.

    An address is that of the registry, or one that Ray takes: `auto`, `HOST:PORT`.

    Raises:
        AcceleratorUnavailable: It is neither.
        EipackError: A registry answers, and refuses this client.
    """
    from eipack_eia.attached import endpoint_for

    if ":" in address and not address.startswith("ray:"):
        try:
            endpoint = endpoint_for(address, files)
        except ValueError as error:
            raise AcceleratorUnavailable(f"--address: {error}") from error
        try:
            found = describe(endpoint, files)
        except (AcceleratorUnavailable, DeadlineExceeded, ProtocolError):
            return find(pool, address), address
        if found.name != pool:
            raise AcceleratorUnavailable(f"the registry at {endpoint} is that of {found.name}")
        return endpoint, None
    return find(pool, address), address


class Finder:
    """Where registries have moved to since their attachments were recorded; safe in threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._moved: dict[str, Endpoint] = {}
        self._asked: dict[str, float] = {}

    def renew(
        self, attachment: Attachment, files: Files, held: Sequence[Held]
    ) -> dict[str, Standing]:
        """Renew leases at the registry, wherever it is now.

        Raises:
            EipackError: It cannot be found, or refuses.
        """
        try:
            return renew(self.at(attachment), files, held)
        except (AcceleratorUnavailable, DeadlineExceeded, ProtocolError):
            if not self._found_again(attachment):
                raise
            return renew(self.at(attachment), files, held)

    def at(self, attachment: Attachment) -> Endpoint:
        """Return where the registry was seen last."""
        return self._moved.get(attachment.pool, attachment.registry)

    def _found_again(self, attachment: Attachment) -> bool:
        if attachment.ray is None:
            return False
        with self._lock:
            now = time.monotonic()
            if now - self._asked.get(attachment.pool, -_FIND_AGAIN_S) < _FIND_AGAIN_S:
                return False
            self._asked[attachment.pool] = now
        try:
            self._moved[attachment.pool] = find(attachment.pool, attachment.ray)
        except AcceleratorError:
            return False
        return True
