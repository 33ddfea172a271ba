"""`eipack eia`: serve an accelerator, and attach those of others.

Further commands are entry points in the group `eipack.eia_commands`; they are imported when
they are called.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Final

import click

from eipack.cli.arguments import example
from eipack.errors import BackendBroken
from eipack_eia.cli_attached import attach, describe_accelerators, detach, reorder
from eipack_eia.cli_serve import serve

GROUP: Final = "eipack.eia_commands"
_ELSEWHERE: Final = {"pool": "eipack-ray"}
"""Commands that a plugin of this project brings, so that its name can be told."""


class _Group(click.Group):
    """Find commands here, then in the entry points of plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name every command, importing none of the plugins'."""
        return sorted({*super().list_commands(ctx), *_points()})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import one command.

        Raises:
            BackendBroken: Its plugin cannot be imported.
        """
        found = super().get_command(ctx, name)
        point = _points().get(name)
        if found is None and point is not None:
            found = _loaded(point)
            _share_debug(self, found)
            self.add_command(found, name)
        if found is None and name in _ELSEWHERE:
            plugin = _ELSEWHERE[name]
            raise click.UsageError(
                f"`eia {name}` comes with {plugin}; try: pip install {plugin}", ctx
            )
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands; those of plugins by the distribution that brings them."""
        own = [(name, one) for name, one in sorted(self.commands.items()) if name not in _points()]
        width = formatter.width - 28
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(width)) for name, one in own])
        if _points():
            with formatter.section("Plugins"):
                rows = [(name, point.dist) for name, point in sorted(_points().items())]
                formatter.write_dl([(n, f"from {d.name if d else 'somewhere'}") for n, d in rows])


def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _loaded(point: EntryPoint) -> click.Command:
    try:
        found = point.load()
    except Exception as error:
        raise BackendBroken(
            f"command `eia {point.name}` cannot be imported: {type(error).__name__}: {error}; "
            f"reinstall its plugin"
        ) from error
    if not isinstance(found, click.Command):
        raise BackendBroken(f"`eia {point.name}` is a {type(found).__name__}; tell its author")
    return found


def _share_debug(group: click.Group, command: click.Command) -> None:
    """Let `--debug` stand behind a command that came late, as it does behind the others."""
    command.params += [param for param in group.params if "--debug" in param.opts]
    for child in getattr(command, "commands", {}).values():
        _share_debug(group, child)


@click.group(
    cls=_Group,
    epilog=example(
        "eipack eia serve --on cpu",
        "eipack eia attach 127.0.0.1:8470",
        "eipack run resnet18.eipack --target eia:0",
    ),
)
def eia() -> None:
    """Serve slices of accelerators, and attach them to this host as eia:0, eia:1 and so on."""


for _command in (serve, attach, detach, reorder, describe_accelerators):
    eia.add_command(_command)
