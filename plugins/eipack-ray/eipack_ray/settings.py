"""What a pool and its accelerators are set up with; files lie under the same path on every node."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from attrs import frozen
from eipack_eia.endpoint import Endpoint
from eipack_eia.server.access import Access

LEASE_S: Final = 60.0
NAMESPACE: Final = "eipack"
REGISTRY: Final = "eipack-pool."
MEMBER: Final = "eipack-accelerator."


@frozen
class Guard:
    """Who may use a pool: `eipack eia serve` has the same options."""

    token_file: str | None = None
    no_token: bool = False
    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None
    insecure: bool = False

    def plan(self, listen: Endpoint) -> Access:
        """Decide who may use what listens there.

        Raises:
            AcceleratorDenied: It would be open to others, or the options contradict each other.
            KeyUnavailable: A file is not on this node, or cannot be used.
        """
        return Access.plan(
            listen,
            token_file=_path(self.token_file),
            no_token=self.no_token,
            cert=_path(self.cert),
            key=_path(self.key),
            client_ca=_path(self.client_ca),
            insecure=self.insecure,
        )

    def at(self, host: str, port: int = 0) -> Endpoint:
        """Say where to listen on a node."""
        return Endpoint(host, port, "https" if self.cert else "http")


@frozen
class PoolSettings:
    """How a pool lends; `port` is that of its registry, 0 a free one.

    `loopback` keeps it to the host that the whole cluster runs on.
    """

    name: str
    lease_s: float = LEASE_S
    shared: bool = False
    port: int = 0
    loopback: bool = False
    guard: Guard = Guard()

    def host(self, node: str) -> str:
        """Say at which address of a node to listen."""
        return "127.0.0.1" if self.loopback else node

    @property
    def registry(self) -> str:
        """The name of the actor that keeps the pool's book."""
        return REGISTRY + self.name


@frozen
class Offer:
    """What each accelerator is: `eipack eia serve` has the same options."""

    type: str
    on: str
    guard: Guard = Guard()
    trust: tuple[str, ...] = ()
    store_bytes: int = 50_000_000_000


def member_name(pool: str, accelerator: str) -> str:
    """Name the actor behind an accelerator."""
    return f"{MEMBER}{pool}.{accelerator}"


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)
