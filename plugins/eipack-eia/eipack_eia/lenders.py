"""Who lends accelerators by name, as `ray://POOL`: plugins, found when one is asked for.

They are entry points in the group `eipack.eia_lenders`, named as their scheme.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol

from attrs import frozen

from eipack.errors import BackendBroken, BackendNotFound
from eipack_eia.endpoint import Endpoint

if TYPE_CHECKING:
    from eipack_eia.attached import Attached, Files

GROUP: Final = "eipack.eia_lenders"
_KNOWN: Final = ("ray",)
"""Schemes that a plugin of this project serves, so that its name can be told."""


@frozen
class Wanted:
    """What a client asks a lender for; `address` is where the lender itself is."""

    type: str | None = None
    shared: bool = False
    address: str = "auto"
    wait_s: float = 0.0


@frozen
class Lent:
    """An accelerator that is lent; `pool` is what its lender has to know of it, as one text."""

    id: str
    type: str
    endpoint: Endpoint
    pool: str


class Lender(Protocol):
    """One that lends accelerators, and knows where they are when they have moved."""

    def take(self, pool: str, wanted: Wanted, files: Files) -> Lent:
        """Take an accelerator that is free."""

    def settled(self) -> None:
        """Hear that what was taken is recorded."""

    def find(self, one: Attached, timeout_s: float) -> Endpoint:
        """Return where it is now; AcceleratorUnavailable with `lost` true if it is another's."""

    def keep(self, one: Attached, lost: Callable[[str], None]) -> Callable[[], None]:
        """Hold it until the function that is returned is called; tell when it is lost, and why.

        AcceleratorUnavailable if it is another's already.
        """

    def give_back(self, one: Attached) -> None:
        """Give it back."""


def scheme_of(address: str) -> str | None:
    """Return the lender's scheme of an address as `ray://POOL`; None for those of servers."""
    scheme, separator, _ = address.strip().partition("://")
    from importlib.metadata import entry_points

    known = separator and (scheme in _KNOWN or entry_points(group=GROUP, name=scheme))
    return scheme if known else None


@cache
def lender(scheme: str) -> Lender:
    """Return who lends by a scheme, one for the whole process.

    Raises:
        BackendNotFound: No plugin does.
        BackendBroken: It cannot be imported.
    """
    from importlib.metadata import entry_points

    found = list(entry_points(group=GROUP, name=scheme))
    if not found:
        raise BackendNotFound(f"no plugin lends {scheme}://; try: pip install eipack-{scheme}")
    try:
        kind = found[0].load()
    except Exception as error:
        raise BackendBroken(
            f"the lender of {scheme}:// cannot be imported: {type(error).__name__}: {error}; "
            f"reinstall its plugin"
        ) from error
    made: Lender = kind()
    return made


def lender_of(one: Attached) -> Lender | None:
    """Return who has lent an accelerator; None if it was attached by its own address.

    Raises:
        BackendError: Its plugin is not there any more, or cannot be imported.
    """
    return None if one.pool is None else lender(one.pool.partition("://")[0])
