"""`eipack bench`: how long a call takes, on each target, by each program, in each scenario."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eipack.cli.arguments import example, package_file
from eipack.cli.bench_options import (
    STDOUT,
    benchmark_words,
    check_files,
    check_words,
    limits_of,
    measuring_options,
    places,
)
from eipack.cli.engine import EngineOption, asked, engine_options
from eipack.cli.printing import note, printable_json
from eipack.cli.progress import counting
from eipack.errors import EipackError

if TYPE_CHECKING:
    from eipack.measuring import Report
    from eipack.statistics.limits import Checked
    from eipack.target import Target


@click.command(
    epilog=example(
        "eipack bench resnet18.eipack --target cpu --program trace --program script",
        "eipack bench resnet18.eipack --target cpu --target eia:0 --p90-ms 15 --json report.json",
        "eipack bench resnet18.eipack --until-stable --concurrency 1,2,4 --rate 20,50",
    )
)
@package_file
@places
@measuring_options
@engine_options
@click.pass_context
def bench(
    ctx: click.Context,
    /,
    file: Path,
    targets: tuple[Target, ...],
    programs: tuple[str, ...],
    report_file: Path | None,
    plot: Path | None,
    html: Path | None,
    force: bool,
    precision: str,
    threads: int | None,
    of_engine: tuple[EngineOption, ...],
    **how: Any,
) -> None:
    """Time a package on each target, by each program.

    The inputs are the package's own samples. Each target and program has a process of its own,
    and all that is timed takes turns, so that what slows the machine slows all of it. A target
    or program that cannot run here is a line on stderr, and the exit code is then 1; it is 1 too
    where there are limits and no row is known to keep them.
    """
    session = asked(precision, threads, of_engine)
    check_words(ctx)
    check_files(ctx, (report_file, plot, html), force=force)
    if how["mlperf"] is not None:
        from eipack.cli.bench_mlperf import run_loadgen

        run_loadgen(ctx, file, session, report_file)
        return
    by_time = how["duration_s"] is not None or how["until_stable"]
    with counting("timing, ms" if by_time else "timing calls") as progress:
        import eipack

        try:
            report = eipack.benchmark(
                file,
                targets or ("cpu",),
                programs=programs or None,
                progress=progress,
                **benchmark_words(how),
                **session,
            )
        except ValueError as error:
            if isinstance(error, EipackError):
                raise
            raise click.UsageError(str(error), ctx) from error
    from eipack.measuring.verdicts import verdict_of

    limits_ms = limits_of(how)
    verdicts = [verdict_of(row, limits_ms) for row in report.rows] if limits_ms else []
    _tell(report, verdicts, report_file)
    _draw(report, plot, html, quiet=report_file == STDOUT)
    failed = [row for row in report.rows if row.error is not None]
    for line in dict.fromkeys(f"error: {row.target}: {row.error}" for row in failed):
        note(line)
    missed = bool(limits_ms) and not any(one and one.verdict == "pass" for one in verdicts)
    if missed:
        limits = " and ".join(f"{name} <= {limit:g}" for name, limit in limits_ms.items())
        note(f"error: no row is known to keep {limits}")
    if failed or missed:
        ctx.exit(1)


def _tell(report: Report, verdicts: Sequence[Checked | None], report_file: Path | None) -> None:
    """Print the report as it is asked for, and write it."""
    if report_file == STDOUT:
        click.echo(printable_json(report.to_json().decode()), nl=False)
        return
    from eipack.cli.bench_table import print_report

    print_report(report, verdicts)
    if report_file is not None:
        _write(report, report_file)


def _write(report: Report, path: Path) -> None:
    from eipack.package.beside import write_beside

    data = report.to_json()
    write_beside(path, lambda place: place.write_bytes(data))
    click.echo(f"report: {path}")


def _draw(report: Report, plot: Path | None, html: Path | None, *, quiet: bool) -> None:
    if plot is not None:
        from eipack.pictures import latency

        latency.draw(report, plot)
    if html is not None:
        from eipack.pictures import page

        page.write(report, html)
    for path in (plot, html):
        if path is not None and not quiet:
            click.echo(f"written: {path}")
