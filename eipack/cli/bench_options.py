"""The options of `eipack bench`: how long, how calls are offered, which limits, what is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from eipack.cli.arguments import FILE, DurationType, ParamType, TargetType, refuse_overwriting
from eipack.errors import PictureRefused
from eipack.pictures.markup import check_name
from eipack.pictures.styles import format_of
from eipack.statistics.figures import FIGURES

_F = TypeVar("_F", bound=Callable[..., Any])

STDOUT: Final = Path("-")


class NumbersType(ParamType):
    """Numbers above 0 with commas between them, as `1,2,4`."""

    def __init__(self, name: str, read: Callable[[str], float]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text."""
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(self._read(part) for part in value.split(","))
        except ValueError:
            found = ()
        if not found or not all(0 < number < float("inf") for number in found):
            self.fail(f"{value!r}; write numbers above 0, as {self.name}", param, ctx)
        return found


class LimitType(click.FloatRange):
    """A time above 0; one that no call could miss is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text."""
        found = super().convert(value, param, ctx)
        if not isfinite(found):
            self.fail(f"{value!r}; write a number of ms above 0", param, ctx)
        return found


_INTEGERS: Final = NumbersType("1,2,4", int)
_RATES: Final = NumbersType("20,50", float)

_HOW_LONG: Final = (
    click.option(
        "--calls",
        type=click.IntRange(min=1),
        default=1000,
        show_default=True,
        help="How many calls of each row to time, after the first one and those that warm up.",
    ),
    click.option(
        "--duration",
        "duration_s",
        type=DurationType(),
        help="How long to time each row, as 30s or 2m, in place of a number of calls.",
    ),
    click.option(
        "--until-stable",
        is_flag=True,
        help="Until p90 of every row is known to 5 % (95 % interval), 60s or --duration at most.",
    ),
)
_OFFERED: Final = (
    click.option(
        "--concurrency",
        type=_INTEGERS,
        metavar="1,2,4",
        default=(),
        help="Also with so many callers at once.",
    ),
    click.option(
        "--rate",
        "rate_per_s",
        type=_RATES,
        metavar="20,50",
        default=(),
        help="Also with calls that arrive at so many a second, whoever is answered by then.",
    ),
    click.option(
        "--batch",
        type=_INTEGERS,
        metavar="1,8,32",
        default=(),
        help="At these sizes of the batch, in place of the inputs' own.",
    ),
    click.option("--offline", is_flag=True, help="Also with all calls there at once."),
    click.option(
        "--seed", type=click.IntRange(min=0), default=0, help="Draw arrivals from another seed."
    ),
    click.option(
        "--in-process", is_flag=True, help="Measure all in this process, not each in a fresh one."
    ),
    click.option(
        "--aa/--no-aa",
        default=None,
        help="Measure the first row twice to know the noise; by default if there are several.",
    ),
    click.option(
        "--instance",
        metavar="NAME",
        help="What this machine is rented as, c5.large; by default as it says itself.",
    ),
)
_MLPERF: Final = (
    click.option(
        "--mlperf",
        type=click.Choice(["SingleStream", "Server", "Offline"]),
        help="Have MLPerf's own LoadGen measure, for --duration (60s by default); a server needs "
        "one --rate and one limit.",
    ),
    click.option(
        "--mlperf-dir", type=FILE, metavar="DIR", help="Where LoadGen leaves its log files."
    ),
)
_WRITTEN: Final = (
    click.option(
        "--json",
        "report_file",
        type=FILE,
        metavar="FILE",
        help="Write the whole report there, each sample included; - prints it in place of tables.",
    ),
    click.option("--plot", type=FILE, metavar="FILE", help="Draw the latencies, as .png or .svg."),
    click.option("--html", type=FILE, metavar="FILE", help="Write a report to read, as one file."),
    click.option("--force", is_flag=True, help="Replace files that are there."),
)


def _limit(name: str) -> Callable[[_F], _F]:
    figure = name.removesuffix("_ms")
    return click.option(
        f"--{figure}-ms",
        name,
        type=LimitType(min=0, min_open=True),
        metavar="MS",
        help=f"Say of each row whether its {figure} keeps this limit.",
    )


def places(command: _F) -> _F:
    """Add `--target` and `--program`, both repeatable."""
    target = click.option(
        "--target",
        "targets",
        type=TargetType(),
        multiple=True,
        metavar="TARGET",
        help="Where to run (repeatable); by default cpu.",
    )
    program = click.option(
        "--program",
        "programs",
        multiple=True,
        metavar="PROGRAM",
        help="A program's id, kind or method (repeatable); by default each target's choice.",
    )
    return target(program(command))


def measuring_options(command: _F) -> _F:
    """Add what says how long is measured, how calls are offered, and what is written."""
    limits = tuple(_limit(name) for name in FIGURES)
    for option in reversed((*_HOW_LONG, *_OFFERED, *limits, *_MLPERF, *_WRITTEN)):
        command = option(command)
    return command


def benchmark_words(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is for `eipack.benchmark` of all that is given."""
    others = {*FIGURES, "mlperf", "mlperf_dir"}
    return {name: value for name, value in given.items() if name not in others}


def check_words(ctx: click.Context) -> None:
    """Refuse a number of calls beside a duration, and a folder for files that nobody writes.

    Raises:
        UsageError: The options do not fit together.
    """
    typed = ctx.get_parameter_source("calls") is not click.core.ParameterSource.DEFAULT
    if typed and (ctx.params["duration_s"] is not None or ctx.params["until_stable"]):
        other = "--until-stable" if ctx.params["until_stable"] else "--duration"
        raise click.UsageError(f"give --calls or {other}, not both", ctx)
    if ctx.params["mlperf_dir"] is not None and ctx.params["mlperf"] is None:
        raise click.UsageError("--mlperf-dir is for the files of --mlperf; give both", ctx)


def check_files(ctx: click.Context, files: Sequence[Path | None], *, force: bool) -> None:
    """Check, before any work, that every file can be written.

    Raises:
        PackageIOError: One is there and `force` is false, or its folder is not.
        UsageError: The picture or the page is of another kind than can be drawn.
    """
    for name, check in (("plot", format_of), ("html", check_name)):
        try:
            if ctx.params[name] is not None:
                check(ctx.params[name])
        except PictureRefused as error:
            raise click.UsageError(str(error), ctx) from error
    for path in files:
        if path is not None and path != STDOUT:
            refuse_overwriting(path, force=force)


def limits_of(given: Mapping[str, Any]) -> dict[str, float]:
    """Return the limits that are given, in ms by the names of the figures."""
    return {name: given[name] for name in FIGURES if given[name] is not None}
