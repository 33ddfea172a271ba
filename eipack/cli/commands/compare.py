"""`eipack compare`: what is slower or faster in a second report, beyond noise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eipack.cli.arguments import FILE, ParamType, as_json, example
from eipack.cli.bench_table import number
from eipack.cli.printing import note, plural, print_json, print_table, printable, size_text
from eipack.statistics.figures import FIGURES

if TYPE_CHECKING:
    from eipack.measuring.changes import Beside, Changes, FigureChange

_HEADINGS = ("row", "figure", "before", "after", "change", "interval", "verdict")
_NUMBERS = ("before", "after", "change", "interval")


class ShareType(ParamType):
    """A share such as `5%` or `0.05`."""

    name = "SHARE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(%?)", value.strip())
        if match is None:
            self.fail(f"{value!r}; write for example 5% or 0.05", param, ctx)
        share = float(match[1]) / (100 if match[2] else 1)
        if not match[2] and share >= 1:
            self.fail(f"{value!r} would be {share:.0%}; write for example 5% or 0.05", param, ctx)
        return share


@click.command(
    epilog=example(
        "eipack compare before.json after.json",
        "eipack compare before.json after.json --max-regression 5% --figure p90_ms",
    )
)
@click.argument("before", type=FILE, metavar="A.json")
@click.argument("after", type=FILE, metavar="B.json")
@click.option(
    "--max-regression",
    type=ShareType(),
    metavar="SHARE",
    help="How much slower a figure may be, as 5%; by default not at all, beyond noise.",
)
@click.option(
    "--figure",
    "figures",
    type=click.Choice(tuple(FIGURES)),
    multiple=True,
    help="A figure to judge (repeatable); by default p50_ms, p90_ms and mean_ms.",
)
@click.option(
    "--different-packages", is_flag=True, help="Compare reports of two different packages."
)
@as_json
@click.pass_context
def compare(
    ctx: click.Context,
    before: Path,
    after: Path,
    max_regression: float | None,
    figures: tuple[str, ...],
    different_packages: bool,
    as_json: bool,
) -> None:
    """Say what changed between two reports, beyond noise.

    A figure is slower or faster where the 95 % interval of the change excludes no change, and the
    change exceeds what an A/A run calls noise. The exit code is 1 where a figure is slower by more
    than --max-regression, with confidence, or where a row fails in B that did not in A.
    """
    from eipack.measuring.changes import JUDGED
    from eipack.measuring.changes import compare as compare_reports

    chosen = tuple(dict.fromkeys(figures)) or JUDGED
    changes = compare_reports(before, after, figures=chosen, different_packages=different_packages)
    allowed = max_regression or 0.0
    if as_json:
        from attrs import asdict

        slower = changes.slower(allowed)
        regressions = [{"row": row.row, "figure": figure.figure} for row, figure in slower]
        print_json({**asdict(changes), "max_regression": allowed, "regressions": regressions})
    else:
        print_table(_HEADINGS, _lines(changes), right=_NUMBERS)
        _print_rest(changes, allowed)
    for warning in changes.warnings:
        note(f"warning: {warning}")
    for row in changes.newly_failed:
        note(f"error: {row} fails in {after}, and did not in {before}")
    if changes.slower(allowed) or changes.newly_failed:
        ctx.exit(1)


def _lines(changes: Changes) -> Iterator[tuple[str, ...]]:
    for row in changes.rows:
        name = row.row
        for figure in row.figures:
            yield (name, *_cells(figure))
            name = ""  # said once for all of its lines
        for beside in row.beside:
            if beside.before is not None and beside.after is not None:
                yield ("", *_cells_beside(beside))


def _cells(change: FigureChange) -> tuple[str, ...]:
    if change.high is None:
        interval = "too few calls"
    else:
        interval = f"{change.low - 1:+.1%} to {change.high - 1:+.1%}"
    before, after = (_in_ms(value) for value in (change.before, change.after))
    return change.figure, before, after, f"{change.ratio - 1:+.1%}", interval, change.verdict


def _in_ms(value: float) -> str:
    return f"{value:.3f}" if value >= 0.1 else f"{value:.5f}"


def _cells_beside(beside: Beside) -> tuple[str, ...]:
    before, after = beside.before or 0, beside.after or 0
    in_bytes = beside.figure.endswith("_bytes")
    texts = [size_text(int(one)) if in_bytes else number(one) for one in (before, after)]
    change = f"{after / before - 1:+.1%}" if before else ""
    return beside.figure, *texts, change, "", ""


def _print_rest(changes: Changes, allowed: float) -> None:
    for names, where in ((changes.only_before, "A"), (changes.only_after, "B")):
        for name in names:
            click.echo(f"only in {where}: {printable(name)}")
    for names, where in ((changes.failed_before, "A"), (changes.failed_after, "B")):
        for name in names:
            click.echo(f"failed in {where}: {printable(name)}")
    verdicts = [figure.verdict for row in changes.rows for figure in row.figures]
    counts = ", ".join(
        f"{verdicts.count(verdict)} {verdict}"
        for verdict in ("slower", "faster", "same", "insufficient")
        if verdict in verdicts
    )
    click.echo(
        f"{plural(len(verdicts), 'figure')}: {counts} (noise floor {changes.noise_floor:.1%})"
    )
    if allowed:
        slower = len(changes.slower(allowed))
        share = f"{100 * allowed:.3g}%"
        click.echo(f"{plural(slower, 'figure')} slower by more than {share}, with confidence")
