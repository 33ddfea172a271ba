"""What this host records of an accelerator that a pool has lent it: one text, as a URL.

`ray://POOL?lease=ID&client=NAME&registry=HOST:PORT&shared=1&ray=ADDRESS`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, quote, urlsplit

from attrs import frozen
from eipack_eia.endpoint import Endpoint

from eipack.errors import AcceleratorUnavailable
from eipack_ray.messages import Held

if TYPE_CHECKING:
    from eipack_eia.attached import Attached

SCHEME: Final = "ray"


@frozen
class Attachment:
    """A lease, the registry that has it, and the Ray cluster that knows the registry.

    `ray` is None where this host is no part of the cluster.
    """

    pool: str
    lease: str
    client: str
    registry: Endpoint
    shared: bool = False
    ray: str | None = None

    @classmethod
    def parse(cls, text: str) -> Attachment:
        """Read the text.

        Raises:
            ValueError: It is none.
        """
        parts = urlsplit(text)
        given = {name: values[0] for name, values in parse_qs(parts.query).items()}
        try:
            return cls(
                parts.netloc,
                given["lease"],
                given["client"],
                Endpoint.parse(given["registry"]),
                given.get("shared") == "1",
                given.get("ray"),
            )
        except KeyError as error:
            raise ValueError(f"the record of pool {parts.netloc!r} has no {error}") from error

    def __str__(self) -> str:
        given = {"lease": self.lease, "client": self.client, "registry": str(self.registry)}
        if self.shared:
            given["shared"] = "1"
        if self.ray is not None:
            given["ray"] = self.ray
        words = [f"{name}={quote(value, safe=':@')}" for name, value in given.items()]
        return f"{SCHEME}://{self.pool}?{'&'.join(words)}"

    def held(self, accelerator: str) -> Held:
        """Say what is held, as a registry wants to hear it."""
        return Held(self.lease, self.client, accelerator, self.shared)


def of(one: Attached) -> Attachment:
    """Read the attachment of an accelerator that a pool has lent.

    Raises:
        AcceleratorUnavailable: Somebody has changed the record, and it cannot be read.
    """
    try:
        return Attachment.parse(one.pool or "")
    except ValueError as error:
        raise AcceleratorUnavailable(f"{one}: {error}; detach it, and attach another") from error
