"""Commands that plugins bring: entry points in the group `eipack.commands`.

Listing them imports none; one that cannot be imported fails alone.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from eipack.errors import BackendBroken, BackendConflict

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    import click

GROUP: Final = "eipack.commands"


@cache
def _points() -> tuple[EntryPoint, ...]:
    from importlib import metadata  # the built-in commands never need it

    return tuple(metadata.entry_points(group=GROUP))


def names() -> dict[str, tuple[str, ...]]:
    """Map each command of a plugin to the distributions that bring it."""
    found: dict[str, tuple[str, ...]] = {}
    for point in _points():
        owner = point.dist.name if point.dist else "an unknown distribution"
        found[point.name] = tuple(sorted((*found.get(point.name, ()), owner)))
    return dict(sorted(found.items()))


def load(name: str) -> click.Command | None:
    """Import a plugin's command; None where there is no such command.

    Raises:
        BackendBroken: The plugin cannot be imported, or names no click command.
        BackendConflict: Two distributions bring a command of that name.
    """
    import click

    owners = names().get(name)
    if owners is None:
        return None
    if len(owners) > 1:
        raise BackendConflict(
            f"command {name!r} is claimed by {' and '.join(owners)}; uninstall one of them",
            distributions=owners,
        )
    point = next(point for point in _points() if point.name == name)
    try:
        command = point.load()
    except Exception as error:
        raise BackendBroken(
            f"command {name!r} of {owners[0]} cannot be imported: {type(error).__name__}: {error}; "
            f"reinstall or remove it: pip uninstall {owners[0]}",
            distribution=owners[0],
        ) from error
    if not isinstance(command, click.Command):
        raise BackendBroken(
            f"command {name!r} of {owners[0]} is no click command but a {type(command).__name__}; "
            f"tell its author",
            distribution=owners[0],
        )
    return command
