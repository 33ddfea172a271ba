"""What clients and the registry of a pool say to each other, as JSON over HTTP."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from eipack.errors import ProtocolError

LEASE: Final = "v1/lease"
RENEW: Final = "v1/renew"
RELEASE: Final = "v1/release"
POOL: Final = "v1/pool"

_Message = TypeVar("_Message")


class Ask(msgspec.Struct, frozen=True):
    """Ask for an accelerator; the id of the lease is the client's secret, and repeats nothing."""

    lease: str
    client: str
    type: str | None = None
    shared: bool = False


class Held(msgspec.Struct, frozen=True):
    """A lease that a client holds, told in full: a registry that was restarted has forgotten it."""

    lease: str
    client: str
    accelerator: str
    shared: bool


class Renewal(msgspec.Struct, frozen=True):
    """Leases to be renewed."""

    leases: list[Held]


class Release(msgspec.Struct, frozen=True):
    """Leases that are given back."""

    leases: list[str]


class Grant(msgspec.Struct, frozen=True):
    """An accelerator that is lent; `lease_s` is how long without a renewal."""

    accelerator: str
    type: str
    endpoint: str
    lease_s: float
    shared: bool


class Answer(msgspec.Struct, frozen=True):
    """The answer to `Ask`: a grant, or why there is none now."""

    grant: Grant | None = None
    why: str = ""


class Standing(msgspec.Struct, frozen=True):
    """How a renewed lease stands.

    `endpoint` is None while the accelerator is being placed; `lost` says why the lease is gone.
    """

    lease_s: float
    endpoint: str | None = None
    lost: str = ""


class Renewed(msgspec.Struct, frozen=True):
    """The standing of each lease."""

    leases: dict[str, Standing]


class Holder(msgspec.Struct, frozen=True):
    """Who holds an accelerator; the id of the lease is not told to others."""

    client: str
    shared: bool
    expires_s: float


class Member(msgspec.Struct, frozen=True):
    """An accelerator of a pool, as `pool list` tells of it."""

    id: str
    type: str
    state: str
    endpoint: str | None
    node: str
    process_id: int | None
    restarts: int
    detail: str
    holders: list[Holder]


class Pool(msgspec.Struct, frozen=True):
    """A pool, as `pool list` tells of it."""

    name: str
    registry: str
    lease_s: float
    shared: bool
    accelerators: list[Member]


def read(data: Any, kind: type[_Message]) -> _Message:
    """Read a message that was decoded as JSON.

    Raises:
        ProtocolError: It is none of that kind.
    """
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"a pool's registry and its client disagree: {error}") from error
