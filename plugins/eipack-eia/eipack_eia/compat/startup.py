"""The accelerators that scripts see, and the lines that Elastic Inference printed at the start."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import metadata
from typing import Final

import click

from eipack.errors import DeviceNotFound
from eipack.target import Target
from eipack_eia.attached import VISIBLE, Attached, visible

_REMEDY: Final = "attach one with: eipack eia attach HOST:PORT"

_found: dict[Target, Attached] = {}
_printed: list[str] = []


def _visible() -> Sequence[Attached]:
    return visible()


def require(target: Target) -> Attached:
    """Return the accelerator attached under the target's ordinal; no connection is made.

    Raises:
        DeviceNotFound: There is none.
    """
    known = _found.get(target)
    if known is not None:  # scripts enter a context for each call
        return known
    there = _visible()
    for one in there:
        if target.ordinal in {None, one.ordinal}:
            _found[target] = one
            return one
    raise DeviceNotFound(f"{target}: {_reason(there)}; {_REMEDY}", target=str(target))


def _reason(there: Sequence[Attached]) -> str:
    named = ", ".join(f"eia:{one.ordinal}" for one in there)
    said = f"the accelerators here are {named}" if there else "no accelerator is attached"
    limit = os.environ.get(VISIBLE)
    return said if limit is None else f"{said} with {VISIBLE}={limit!r}"


def announce(target: Target) -> None:
    """Print what the original client printed at the first run, once for each accelerator.

    Raises:
        DeviceNotFound: None is attached under the target's ordinal.
    """
    used = require(target)
    if used.id in _printed:
        return
    if not _printed:
        version = metadata.version("eipack-eia")
        click.echo(f"Using Amazon Elastic Inference Client Library Version: eipack-eia {version}")
        click.echo(f"Number of Elastic Inference Accelerators Available: {len(_visible())}")
    _printed.append(used.id)
    click.echo(f"Elastic Inference Accelerator ID: {used.id}")
    click.echo(f"Elastic Inference Accelerator Type: {used.type}")
    click.echo(f"Elastic Inference Accelerator Ordinal: {used.ordinal}")


def forget() -> None:
    """Look for the accelerators anew, and print the lines again."""
    _found.clear()
    _printed.clear()
