"""`eipack tune`: find the fastest correct way to run a package on this machine, and keep it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eipack.cli.arguments import DurationType, TargetType, as_json, example, package_file
from eipack.cli.printing import console, note, print_json, print_table
from eipack.errors import EipackError
from eipack.target import Target

if TYPE_CHECKING:
    from eipack.tuning import Record, Row

_PRECISIONS = ("float32", "bfloat16", "float16", "int8")
_RIGHT = ("p50_ms", "calls", "speed-up", "loss", "threads", "batch", "rows/s")
Progress = Callable[[str, float, float], None]


@click.command(
    epilog=example(
        "eipack tune resnet18.eipack --target cpu",
        "eipack tune resnet18.eipack --precision float32 --precision bfloat16 --budget 2m",
    )
)
@package_file
@click.option(
    "--target",
    type=TargetType(),
    default="cpu",
    show_default=True,
    metavar="TARGET",
    help="The device: cpu, cuda:0, eia:0, or auto for all that are here.",
)
@click.option(
    "--objective",
    type=click.Choice(["latency", "throughput"]),
    default="latency",
    show_default=True,
    help="The shortest call, or the most rows a second over batches of 1, 2, 4, ….",
)
@click.option(
    "--budget",
    "budget_s",
    type=DurationType(),
    default="60s",
    show_default=True,
    help="How long it may take, as 60s or 2m.",
)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(_PRECISIONS),
    multiple=True,
    help="A precision that is allowed (repeatable); by default float32 alone.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    multiple=True,
    help="A number of threads to try (repeatable); by default all cores, and for latency half "
    "of them and one too.",
)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="ENGINE",
    help="An engine to try beside plain PyTorch (repeatable); by default all.",
)
@as_json
@click.pass_context
def tune(
    ctx: click.Context,
    file: Path,
    target: Target,
    objective: Any,
    budget_s: float,
    precisions: tuple[Any, ...],
    threads: tuple[int, ...],
    engines: tuple[str, ...],
    as_json: bool,
) -> None:
    """Find the fastest correct way to run a package here.

    Every installed engine is tried by each kind of program that the package has. Each has to
    answer as plain PyTorch does, and those that do are timed in turns. The winner is what
    `cpu+auto` and `auto` run from then on; plain PyTorch takes part, so it is never the slower.
    """
    with _progress() as progress, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import eipack

        try:
            record = eipack.tune(
                file,
                target,
                objective=objective,
                budget_s=budget_s,
                precisions=precisions or ("float32",),
                threads=threads or None,
                engines=engines or None,
                progress=progress,
            )
        except ValueError as error:
            if isinstance(error, EipackError):
                raise
            raise click.UsageError(str(error), ctx) from error
    if as_json:
        from eipack.tuning.record import plain_json

        print_json(plain_json(record))
    else:
        _print(record, file)
    _tell(ctx, [warning.message for warning in caught])


def _tell(ctx: click.Context, told: list[Warning | str]) -> None:
    """Print what went wrong at keeping the record; the exit code is then 1."""
    from eipack.tuning import NotKept

    for message in told:
        if isinstance(message, NotKept):
            note(f"error: {message}")
            ctx.exit(1)


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """Give a function that shows the stage, and the time that is used, on a bar; None in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console(err=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda stage, done, total: bar.update(
            task, description=stage, completed=min(done, total), total=total
        )


def _print(record: Record, file: Path) -> None:
    latency = record.objective == "latency"
    columns = ["engine", "program", "precision", "threads"]
    columns += ["p50_ms"] if latency else ["batch", "p50_ms", "rows/s"]
    columns += ["calls", "speed-up", "loss", ""]
    plain = record.plain.row_ms
    print_table(columns, [_cells(row, plain, latency=latency) for row in record.rows], right=_RIGHT)
    winner = record.winner
    threads = "" if winner.threads is None else f", {winner.threads} threads"
    batch = "" if latency else f", batches of {winner.batch}"
    click.echo(
        f"winner: {winner.target} by {winner.program} in {winner.precision}{threads}{batch}, "
        f"{plain / winner.row_ms:.2f}x plain PyTorch ({record.machine.processor})"
    )
    device = Target.parse(winner.target)
    auto = "auto" if record.target == "auto" else str(Target(device.device, "auto", device.ordinal))
    lowest = "" if winner.precision == "float32" else f" --precision {winner.precision}"
    click.echo(f"use it: eipack run {file} --target {auto}{lowest}")


def _cells(row: Row, plain_ms: float, *, latency: bool) -> list[str]:
    engine = f"{row.target} (plain)" if row.plain else row.target
    cells = [engine, row.program or "", row.precision, _number(row.threads)]
    cells += [] if latency else [_number(row.batch)]
    if row.p50_ms is None:
        return [*cells, *[""] * (4 if latency else 5), f"{row.verdict}: {row.reason}"]
    cells += [f"{row.p50_ms:.3f}"] if latency else [f"{row.p50_ms:.3f}", f"{row.rows_per_s:.1f}"]
    cells += [f"{row.calls:,}", f"{plain_ms / row.row_ms:.2f}x"]
    cells += ["" if row.loss is None else f"{row.loss:.2g}"]
    return [*cells, "dropped out" if row.verdict == "slower" else ""]


def _number(value: int | None) -> str:
    return "" if value is None else str(value)
