"""`eipack advise`: which hardware meets the limits at the lowest cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from eipack.cli.arguments import FILE, as_json, example, refuse_overwriting
from eipack.cli.printing import note, print_json, print_table
from eipack.errors import EipackError, PictureRefused
from eipack.pictures.markup import check_name
from eipack.pictures.styles import format_of
from eipack.statistics.figures import FIGURES

if TYPE_CHECKING:
    from eipack.advisor import Advice, Choice, Cost

_F = TypeVar("_F", bound=Callable[..., Any])
_ALWAYS: Final = ("mean_ms", "p90_ms")
_ABOVE_0: Final = click.FloatRange(min=0, min_open=True)


def _limits(command: _F) -> _F:
    for figure in reversed(tuple(FIGURES)):
        option = f"--{figure.replace('_', '-')}"
        text = f"The limit that the {figure.removesuffix('_ms')} has to keep."
        command = click.option(option, type=_ABOVE_0, metavar="MS", help=text)(command)
    return command


def _pairs(ctx: click.Context, param: click.Parameter, texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, price = text.partition("=")
        if not (name and equals and price):
            raise click.BadParameter(f"{text!r}; write for example eia2.medium=0.12", ctx, param)
        if name in found:
            raise click.BadParameter(f"{name} has two prices", ctx, param)
        found[name] = price
    return found


@click.command(
    epilog=example(
        "eipack advise c5.json g4dn.json --p90-ms 15",
        "eipack advise here.json@c5.large measured.csv --p90-ms 15 --qps 200 --html advice.html",
    )
)
@click.argument("reports", nargs=-1, required=True, metavar="REPORT.json|MEASURED.csv...")
@_limits
@click.option(
    "--min-memory-gb",
    type=_ABOVE_0,
    metavar="GB",
    help="What the device has to have, or the host for a CPU (1 GB is 10^9 bytes).",
)
@click.option(
    "--qps", type=_ABOVE_0, metavar="N", help="Say how many serve so many calls a second."
)
@click.option(
    "--max-utilisation",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="SHARE",
    default=0.7,
    show_default=True,
    help="How busy they may be at that rate.",
)
@click.option(
    "--prices",
    default="ec2-2026-07",
    show_default=True,
    metavar="NAME|FILE.csv",
    help="A catalogue (see: eipack prices list), or a CSV file of one's own.",
)
@click.option(
    "--accelerator-price",
    "accelerators",
    multiple=True,
    callback=_pairs,
    metavar="NAME=PRICE",
    help="What an attached one costs: eia2.medium=0.12 (US dollars an hour), or "
    "eia2.medium=g4dn.xlarge/4 for a share of that machine (repeatable).",
)
@click.option(
    "--instance",
    metavar="NAME",
    help="Where the reports were measured that do not say so: c5.large.",
)
@click.option(
    "--by",
    type=click.Choice(["serial", "saturated", "month"]),
    help="The cost to rank by; by default month with --qps, else saturated if all have it.",
)
@click.option("--different-packages", is_flag=True, help="Compare reports of several packages.")
@click.option("--plot", type=FILE, metavar="FILE", help="Draw the costs (.png or .svg).")
@click.option("--html", type=FILE, metavar="FILE", help="Write a page that has it all.")
@click.option("--force", is_flag=True, help="Replace these files if they are there.")
@as_json
@click.pass_context
def advise(
    ctx: click.Context,
    /,
    reports: tuple[str, ...],
    plot: Path | None,
    html: Path | None,
    force: bool,
    as_json: bool,
    **question: Any,
) -> None:
    """Say which hardware keeps the limits at the lowest cost.

    Each report of eipack bench names the instance it was measured on; append it where it does not
    (REPORT.json@c5.large). A CSV file of latencies needs the columns instance and mean_ms. The
    exit code is 1 if nothing that was measured qualifies.
    """
    for path, check in ((plot, format_of), (html, check_name)):
        if path is not None:
            _as_usage(ctx, check, path)
            refuse_overwriting(path, force=force)
    advice = _ask(ctx, reports, question)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(advice))
    else:
        _print(advice)
    _draw(advice, plot, html)
    if advice.best is None:
        ctx.exit(1)


def _as_usage(ctx: click.Context, check: Callable[[Path], object], path: Path) -> None:
    try:
        check(path)
    except PictureRefused as error:
        raise click.UsageError(str(error), ctx) from error


def _ask(ctx: click.Context, reports: Sequence[str], question: Mapping[str, Any]) -> Advice:
    from eipack.advisor import advise as ask

    try:
        return ask(reports, **question)
    except ValueError as error:
        if isinstance(error, EipackError):
            raise
        raise click.UsageError(str(error), ctx) from error


def _draw(advice: Advice, plot: Path | None, html: Path | None) -> None:
    if plot is not None:
        from eipack.pictures import cost

        cost.draw(advice, plot)
        note(f"picture: {plot}")
    if html is not None:
        from eipack.pictures import advice_page

        advice_page.write(advice, html)
        note(f"page: {html}")


def _print(advice: Advice) -> None:
    columns = _columns(advice)
    shown = {name: cells for name, cells in columns.items() if any(cells) or name == ""}
    words = ("what", "target", "program", "verdict", "")
    right = [name for name in shown if name not in words]
    print_table(list(shown), zip(*shown.values(), strict=True), right=right)
    if advice.prices is not None:
        dates = dict.fromkeys(filter(None, (advice.prices.oldest, advice.prices.newest)))
        retrieved = f", {' to '.join(dates)}" if dates else ""
        click.echo(f"US dollars for 100,000 calls; prices: {advice.prices.catalogue}{retrieved}")
    for warning in advice.warnings:
        note(f"warning: {warning}")
    click.echo(advice.sentence)


def _columns(advice: Advice) -> dict[str, list[str]]:
    """Return the cells of each column; the last one, without a name, is why not."""
    choices = advice.choices
    figures = [name for name in FIGURES if name in _ALWAYS or name in advice.limits]
    sizings = [choice.sizing for choice in choices]
    return {
        "rank": ["" if one.rank is None else str(one.rank) for one in choices],
        "what": [one.name for one in choices],
        "target": [_target(one) for one in choices],
        "program": [one.program or "" for one in choices],
        "usd_per_hour": ["" if c.usd_per_hour is None else f"{c.usd_per_hour:g}" for c in choices],
        **{figure: [_latency(one, figure) for one in choices] for figure in figures},
        "serial": [_cost(one.serial) for one in choices],
        "saturated": [_cost(one.saturated) for one in choices],
        "count": ["" if one is None else str(one.count) for one in sizings],
        "usd_per_month": ["" if one is None else f"{one.usd_per_month:,.2f}" for one in sizings],
        "verdict": [one.verdict or "" for one in choices],
        "": [one.excluded or "" for one in choices],
    }


def _target(choice: Choice) -> str:
    precision = "" if choice.precision == "float32" else f" in {choice.precision}"
    return choice.target + precision


def _latency(choice: Choice, figure: str) -> str:
    value = choice.latencies.get(figure)
    return "" if value is None else _text(_ms, value, *choice.intervals.get(figure, (None, None)))


def _cost(cost: Cost | None) -> str:
    from eipack.advisor.saying import usd_digits

    return "" if cost is None else _text(usd_digits, cost.usd, cost.low, cost.high)


def _text(
    write: Callable[[float], str], value: float, low: float | None, high: float | None
) -> str:
    if low is None and high is None:
        return write(value)
    bounds = ("?" if bound is None else write(bound) for bound in (low, high))
    return f"{write(value)} ({' to '.join(bounds)})"


def _ms(value: float) -> str:
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"
