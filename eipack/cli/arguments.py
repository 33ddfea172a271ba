"""Arguments and options that several commands share, read where they enter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eipack.errors import PackageIOError, TargetSyntaxError
from eipack.target import Target

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # older releases of click know no type argument


_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0}


class TargetType(ParamType):
    """A target, `device[+engine][:ordinal]`."""

    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text."""
        try:
            return Target.parse(value)
        except TargetSyntaxError as error:
            self.fail(str(error), param, ctx)


class DurationType(ParamType):
    """A time such as `60s`, `2m` or `90`, in seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|)", value)
        if match is None or not float(match[1]):
            self.fail(f"{value!r}; write for example 60s or 2m", param, ctx)
        return float(match[1]) * _SECONDS[match[2]]


FILE = click.Path(path_type=Path)

package_file = click.argument("file", type=FILE)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def example(*commands: str) -> str:
    """Return the end of a command's help: commands to try, one a line."""
    title = "Example" if len(commands) == 1 else "Examples"
    return "\n".join(["\b", f"{title}:", *(f"  {command}" for command in commands)])


def refuse_overwriting(path: Path, *, force: bool) -> None:
    """Check, before any work, that a file can be written.

    Raises:
        PackageIOError: It is there and `force` is false, or its folder is not.
    """
    if path.is_dir():
        raise PackageIOError(f"{path} is a folder; name a file", path=str(path))
    if path.exists() and not force:
        raise PackageIOError(
            f"{path} is there already; name another file, or replace it with --force",
            path=str(path),
        )
    if not path.absolute().parent.is_dir():
        raise PackageIOError(f"there is no folder {path.parent} to write to", path=str(path))
