"""The root of the command line: commands imported when they are used, and errors in one line."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click
from attrs import define

from eipack.cli import plugins
from eipack.cli.printing import printable
from eipack.errors import EipackError, MethodConflict, TargetSyntaxError

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130

_SECTIONS: Final = {
    "Packages": {
        "export": "eipack.cli.commands.export:export",
        "inspect": "eipack.cli.commands.inspect:inspect",
        "compile": "eipack.cli.commands.compile:compile",
        "extract": "eipack.cli.commands.extract:extract",
        "diff": "eipack.cli.commands.diff:diff",
    },
    "Running": {
        "run": "eipack.cli.commands.run:run",
        "demo": "eipack.cli.commands.demo:demo",
    },
    "Measuring": {
        "bench": "eipack.cli.commands.bench:bench",
        "compare": "eipack.cli.commands.compare:compare",
        "tune": "eipack.cli.commands.tune:tune",
        "advise": "eipack.cli.commands.advise:advise",
        "prices": "eipack.cli.commands.prices:prices",
    },
    "This machine": {
        "devices": "eipack.cli.commands.devices:devices",
        "backends": "eipack.cli.commands.backends:backends",
    },
    "Trust": {
        "trust": "eipack.cli.commands.trust:trust",
        "sign": "eipack.cli.commands.sign:sign",
        "verify": "eipack.cli.commands.verify:verify",
    },
}
BUILT_IN: Final = {name: where for table in _SECTIONS.values() for name, where in table.items()}


@define
class _Settings:
    debug: bool = False
    command: str = "eipack"


class Root(click.Group):
    """Find commands in the table above, then in the entry points of plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name every command, importing none."""
        return [*BUILT_IN, *(name for name in plugins.names() if name not in BUILT_IN)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import one command.

        Raises:
            BackendBroken: Its plugin cannot be imported.
            BackendConflict: Two distributions claim the name.
        """
        where = BUILT_IN.get(name)
        if where is None:
            found = plugins.load(name)
        else:
            module, _, attribute = where.partition(":")
            found = getattr(import_module(module), attribute)
        if found is not None:
            _add_debug(found)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name, or say which it could have been."""
        name = args[0]
        if not name.startswith("-") and name not in BUILT_IN and name not in plugins.names():
            from difflib import get_close_matches

            near = get_close_matches(name, self.list_commands(ctx), n=1)
            guess = f"; did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"there is no command {name!r}{guess}", ctx)
        settings = ctx.find_object(_Settings)
        if settings is not None:
            settings.command = f"eipack {name}"
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by section; those of plugins by the distribution that brings them."""
        for title, table in _SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in table]
            width = formatter.width - 12
            with formatter.section(title):
                formatter.write_dl([(n, c.get_short_help_str(width)) for n, c in commands if c])
        extra = {name: who for name, who in plugins.names().items() if name not in BUILT_IN}
        if extra:
            with formatter.section("Plugins"):
                formatter.write_dl([(n, f"from {' and '.join(who)}") for n, who in extra.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and write out what it printed, so that a closed pipe shows here."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt as error:  # click would print an empty line first
            raise click.Abort from error
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT002 - click's own signature
        windows_expand_args: bool = True,  # noqa: FBT002 - as above
        **extra: Any,
    ) -> Any:
        """Run, and exit with 0 (done), 1 (failed), 2 (wrong use) or 130 (interrupted)."""
        settings = _Settings()
        _replace_closed_streams()
        extra.setdefault("obj", settings)
        try:
            code = super().main(args, prog_name or "eipack", complete_var, False, **extra)
        except Exception as error:  # noqa: BLE001 - the outermost place: everything becomes a line
            if settings.debug:
                import traceback

                traceback.print_exc()
            code = _tell(error, settings)
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else DONE)
        return code


def _replace_closed_streams() -> None:
    """Let what is printed go nowhere where the caller closed stdout or stderr."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def _tell(error: Exception, settings: _Settings) -> int:
    """Print an error in one line and return the exit code for it."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return WRONG_USE
    if isinstance(error, click.Abort):
        click.echo("eipack: interrupted", err=True)
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        message = _own_style(error.format_message())
        ctx = getattr(error, "ctx", None)
        if isinstance(error, click.UsageError):
            message += "" if message.endswith("?") else ";"
            message += f" see: {ctx.command_path if ctx else settings.command} --help"
        code = error.exit_code
    elif isinstance(error, EipackError):
        message = str(error)
        code = WRONG_USE if isinstance(error, TargetSyntaxError | MethodConflict) else FAILED
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        message, code = "cannot write the output: no space left on the device", FAILED
    else:
        said = " ".join(str(error).split())[:300]
        message = f"unexpected {type(error).__name__}: {said}; for a traceback, add --debug"
        code = FAILED
    click.echo(f"eipack: error: {printable(' '.join(message.split()))}", err=True)
    return code


def _own_style(message: str) -> str:
    first, rest = message[:1], message[1:]
    return (first.lower() + rest if rest[:1].islower() else message).rstrip(".")


def _set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    settings = ctx.find_object(_Settings)
    if value and settings is not None:
        settings.debug = True


def _debug_option() -> click.Option:
    return click.Option(
        ["--debug"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_set_debug,
        help="Show a traceback if it fails.",
    )


def _add_debug(command: click.Command) -> None:
    """Let `--debug` stand behind the command too, where people add it."""
    if any("--debug" in param.opts for param in command.params):
        return
    command.params.append(_debug_option())
    for child in getattr(command, "commands", {}).values():
        _add_debug(child)


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from eipack import __version__

    click.echo(f"eipack {__version__}")
    ctx.exit()


root = Root(
    name="eipack",
    help="""Package a PyTorch model once; run it and measure it on any target.

    \b
    Start with:
      eipack demo
      eipack export torchvision:resnet18 --weights none
      eipack run resnet18.eipack --target cpu
    """,
    epilog=(
        "Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted. NO_COLOR=1 turns colours off."
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Print the version and exit.",
        ),
        _debug_option(),
    ],
)
