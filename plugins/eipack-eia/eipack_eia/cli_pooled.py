"""What `eipack eia attach` and `detach` do with an accelerator of a pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click

from eipack.cli.printing import note
from eipack.errors import EipackError
from eipack_eia import attached as store
from eipack_eia.attached import Attached, Files
from eipack_eia.lenders import Wanted, lender, lender_of

_OPTIONS: Final = {"type_name": "type", "lender_at": "address", "wait_s": "wait-s"}


def check_options(given: Mapping[str, Any], scheme: str | None) -> None:
    """Refuse what makes sense for pools alone, or for anything but them."""
    for name, value in given.items():
        if value not in (None, False):
            text = "is for pools, as ray://POOL" if scheme is None else "means nothing for a pool"
            raise click.BadParameter(text, param_hint=f"--{_OPTIONS.get(name, name)}")


def taken(scheme: str, address: str, files: Files, pooled: Mapping[str, Any]) -> Attached:
    """Take an accelerator of a pool and record it; it is given back if that fails."""
    pool = address.strip().partition("://")[2]
    if not pool:
        raise click.BadParameter(f"{address} names no pool", param_hint="ray://POOL")
    wanted = Wanted(
        pooled["type_name"],
        pooled["shared"],
        pooled["lender_at"] or "auto",
        pooled["wait_s"] or 0.0,
    )
    found = lender(scheme)
    lent = found.take(pool, wanted, files)
    try:
        new = store.attach(
            lent.endpoint, files, accelerator_id=lent.id, type_name=lent.type, pool=lent.pool
        )
    except EipackError:
        give_back(Attached(0, lent.id, lent.endpoint, lent.type, None, files, lent.pool))
        raise
    found.settled()
    return new


def give_back(gone: Attached) -> None:
    """Give an accelerator back to its pool; a pool that does not answer takes it back itself."""
    try:
        found = lender_of(gone)
        if found is not None:
            found.give_back(gone)
    except EipackError as error:
        note(f"its pool could not be told, and takes it back when the lease ends: {error}")
