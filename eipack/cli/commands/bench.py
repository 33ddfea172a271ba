"""`eipack bench`: how long a call takes, on each target and by each program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from eipack.cli.arguments import FILE, TargetType, example, package_file, refuse_overwriting
from eipack.cli.engine import EngineOption, asked, engine_options
from eipack.cli.printing import note, plural, print_table, printable_json
from eipack.cli.progress import counting

if TYPE_CHECKING:
    from eipack.measuring import Report, Row
    from eipack.target import Target

_STDOUT = Path("-")
_FIGURES = ("load_ms", "first_ms", "mean_ms", "p50_ms", "p90_ms", "p95_ms")


@click.command(
    epilog=example("eipack bench resnet18.eipack --target cpu --program trace --program script")
)
@package_file
@click.option(
    "--target",
    "targets",
    type=TargetType(),
    multiple=True,
    metavar="TARGET",
    help="Where to run (repeatable); by default cpu.",
)
@click.option(
    "--program",
    "programs",
    multiple=True,
    metavar="PROGRAM",
    help="A program's id, kind or method (repeatable); by default each target's choice.",
)
@click.option(
    "--calls",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="How many calls to time, after the first one and those that warm up.",
)
@click.option(
    "--json",
    "report_file",
    type=FILE,
    metavar="FILE",
    help="Write the whole report there, each sample included; - prints it in place of the table.",
)
@click.option("--force", is_flag=True, help="Replace the report file if it is there.")
@engine_options
@click.pass_context
def bench(
    ctx: click.Context,
    file: Path,
    targets: tuple[Target, ...],
    programs: tuple[str, ...],
    calls: int,
    report_file: Path | None,
    force: bool,
    precision: str,
    threads: int | None,
    of_engine: tuple[EngineOption, ...],
) -> None:
    """Time a package on each target, by each program.

    The inputs are the package's own samples, and all that is timed takes turns, so that what slows
    the machine slows all of it. A target or program that cannot run here is a line on stderr, and
    the exit code is then 1.
    """
    if report_file is not None and report_file != _STDOUT:
        refuse_overwriting(report_file, force=force)
    with counting("timing calls") as progress:
        import eipack

        report = eipack.benchmark(
            file,
            targets or ("cpu",),
            programs=programs or None,
            calls=calls,
            progress=progress,
            **asked(precision, threads, of_engine),
        )
    if report_file == _STDOUT:
        click.echo(printable_json(report.to_json().decode()), nl=False)
    else:
        print_report(report)
        if report_file is not None:
            _write(report, report_file)
    failed = [row for row in report.rows if row.error is not None]
    for row in failed:
        note(f"error: {row.target}: {row.error}")
    if failed:
        ctx.exit(1)


def print_report(report: Report) -> None:
    """Print the rows that have figures as a table, and where they were measured."""
    headings = ("target", "program", *_FIGURES, "calls")
    rows = [_cells(row) for row in report.rows if row.error is None]
    print_table(headings, rows, right=(*_FIGURES, "calls"))
    where = report.environment
    threads = plural(where.threads, "torch thread")
    click.echo(f"{where.machine}, {plural(where.cores, 'core')}, {threads}, torch {where.torch}")


def _cells(row: Row) -> tuple[str, ...]:
    figures = [getattr(row, figure) for figure in _FIGURES]
    return (
        row.ran_on or row.target,
        row.program or "",
        *("" if value is None else f"{value:.2f}" for value in figures),
        f"{row.calls:,}",
    )


def _write(report: Report, path: Path) -> None:
    from eipack.package.beside import write_beside

    data = report.to_json()
    write_beside(path, lambda place: place.write_bytes(data))
    click.echo(f"report: {path}")
