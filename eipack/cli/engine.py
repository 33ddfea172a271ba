"""The options of commands that run packages: precision, threads, and what an engine has itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
from attrs import frozen

from eipack.cli.arguments import ParamType

_F = TypeVar("_F", bound=Callable[..., Any])

_PRECISIONS = ("float32", "bfloat16", "float16", "int8")


@frozen
class EngineOption:
    """One value for an engine's own option."""

    engine: str
    name: str
    value: Any


class EngineOptionType(ParamType):
    """An engine's own option, `ENGINE.NAME=VALUE`."""

    name = "engine option"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text; the value as JSON where it is some, else as a string."""
        place, equals, text = str(value).partition("=")
        engine, dot, name = place.partition(".")
        if not (engine and dot and name and equals):
            self.fail(f"{value!r} is not ENGINE.NAME=VALUE", param, ctx)
        try:
            read = json.loads(text)
        except ValueError:
            read = text
        return EngineOption(engine, name, read)


def engine_options(command: _F) -> _F:
    """Add `--precision`, `--threads` and `--option` to a command; `asked` reads them."""
    options = (
        click.option(
            "--precision",
            type=click.Choice(_PRECISIONS),
            default="float32",
            show_default=True,
            help="What to compute in, where the engine has it and the model stands it.",
        ),
        click.option(
            "--threads",
            type=click.IntRange(min=1),
            help="Threads of a call; by default one a core.",
        ),
        click.option(
            "--option",
            "of_engine",
            type=EngineOptionType(),
            multiple=True,
            metavar="ENGINE.NAME=VALUE",
            help="An engine's own option, as openvino.NUM_STREAMS=1 (repeatable).",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def asked(precision: str, threads: int | None, of_engine: Sequence[EngineOption]) -> dict[str, Any]:
    """Return what `eipack.load` and `eipack.benchmark` take for these options."""
    options: dict[str, dict[str, Any]] = {}
    for one in of_engine:
        options.setdefault(one.engine, {})[one.name] = one.value
    return {"precision": precision, "threads": threads, "options": options or None}
