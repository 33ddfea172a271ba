"""The page of advice: the sentence, the picture, every choice with its reason, the prices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eipack.advisor.saying import usd_digits
from eipack.cli.printing import size_text
from eipack.pictures.answer import (
    MEANING,
    best_of,
    figure_of,
    headline,
    limits_text,
    names_of,
    qualifies,
    reason,
    short,
    unsure,
)
from eipack.pictures.cost import sheet_of
from eipack.pictures.markup import Cell, Chart, Table, chart, check_name, save, table_of
from eipack.pictures.styles import KINDS, drawing
from eipack.pictures.wording import UNKNOWN, figure, interval, price

if TYPE_CHECKING:
    from eipack.advisor.advice import Advice, Choice, Cost


def write(advice: Advice, path: Path) -> Path:
    """Write advice as a page that needs no other file, no network and no script.

    Equal advice gives equal bytes.

    Raises:
        PictureRefused: The path does not end in .html.
        PackageIOError: The file cannot be written.
    """
    check_name(path)
    with drawing():
        charts = [_picture(advice)] if advice.choices else []
    limits = limits_text(advice)
    return save(
        path,
        "advice.html",
        title=headline(advice),
        kicker="Advice by eipack",
        lead=[f"For {advice.package}" + (f", with {limits}" if limits else ", without a limit")],
        charts=charts,
        choices=_choices(advice),
        notes=_notes(advice),
        sizing=_sizing(advice),
        prices=_prices(advice),
        warnings=advice.warnings,
        footer="Written by eipack.",
    )


def _picture(advice: Advice) -> Chart:
    name = short(figure_of(advice))
    text = (
        f"Bars are costs, hatched where a choice does not qualify; the line is {name}. "
        f"{_meaning(advice.by)}"
    )
    return chart(sheet_of(advice, about=False).figure, "cost", "Cost and latency", text)


def _choices(advice: Advice) -> Table:
    choices, best = advice.choices, best_of(advice)
    latencies = dict.fromkeys(("mean_ms", figure_of(advice), *advice.limits))
    columns = {
        "rank": [Cell(UNKNOWN if one.rank is None else str(one.rank)) for one in choices],
        "USD an hour": [_price(one.usd_per_hour) for one in choices],
        **{f"{short(name)} ms": [_latency(one, name) for one in choices] for name in latencies},
        "USD, serial": [_cost(one.serial) for one in choices],
        "USD, saturated": [_cost(one.saturated, _throughput(one)) for one in choices],
        "memory": [_memory(one) for one in choices],
        " ": [_verdict(one, best=at == best) for at, one in enumerate(choices)],
    }
    named = zip(names_of(advice), choices, strict=True)
    return table_of("All choices", [Cell(name, _ran(one)) for name, one in named], columns)


def _price(usd_per_hour: float | None) -> Cell:
    return Cell(UNKNOWN if usd_per_hour is None else price(usd_per_hour))


def _ran(choice: Choice) -> str:
    precision = None if choice.precision == "float32" else choice.precision
    parts = (
        KINDS[choice.kind][1],
        choice.target,
        choice.program,
        precision,
        Path(choice.source).name,
    )
    return " · ".join(part for part in parts if part)


def _latency(choice: Choice, name: str) -> Cell:
    return Cell(figure(choice.latencies.get(name)), interval(choice.intervals.get(name)))


def _cost(cost: Cost | None, note: str = "") -> Cell:
    if cost is None:
        return Cell(UNKNOWN)
    bounds = None if cost.low is None else (cost.low, cost.high)
    return Cell(usd_digits(cost.usd), interval(bounds) or note)


def _throughput(choice: Choice) -> str:
    return f"{figure(choice.calls_per_s)} calls/s" if choice.calls_per_s else ""


def _memory(choice: Choice) -> Cell:
    needs = choice.memory.peak or choice.memory.least
    if needs is None:
        return Cell(UNKNOWN)
    has = choice.memory.host if choice.kind == "cpu" else choice.memory.accelerator
    return Cell(size_text(needs), f"of {size_text(has)}" if has else "")


def _verdict(choice: Choice, *, best: bool) -> Cell:
    if best:
        return Cell(flags=[("best", "good")], left=True)
    if qualifies(choice):
        return Cell(flags=[("qualifies", "good")], left=True)
    flag = ("insufficient", "warn") if unsure(choice) else ("excluded", "bad")
    return Cell(note=reason(choice), flags=[flag], left=True)


def _notes(advice: Advice) -> list[str]:
    saturated = any(choice.saturated for choice in advice.choices)
    shown = ("serial", "saturated") if saturated else ("serial",)
    told = "Under the figures stand 95 % intervals. Choices of one rank cost the same as far as the"
    return [*(_meaning(by) for by in shown), f"{told} measurement can tell."]


def _meaning(by: str) -> str:
    text = MEANING[by][1]
    return f"{text[0].upper()}{text[1:]}."


def _sizing(advice: Advice) -> Table:
    headings = ("", "calls/s", "how many", "USD a month", "in use")
    named = zip(advice.choices, names_of(advice), strict=True)
    lines = [
        [
            Cell(name),
            Cell(figure(one.qps)),
            Cell(f"{one.count:,}"),
            Cell(f"{one.usd_per_month:,.2f}"),
            Cell(f"{one.utilisation:.0%}"),
        ]
        for choice, name in named
        if (one := choice.sizing) is not None
    ]
    return Table("How many for the rate", headings, lines)


def _prices(advice: Advice) -> list[tuple[str, str]]:
    prices = advice.prices
    if prices is None:
        return [("catalogue", "none; no choice has a price")]
    return [
        ("catalogue", prices.catalogue + (" (historical)" if prices.historical else "")),
        ("currency", prices.currency),
        ("regions", ", ".join(prices.regions)),
        ("basis", ", ".join(prices.bases)),
        ("retrieved", " to ".join(dict.fromkeys((prices.oldest, prices.newest)))),
        ("sources", ", ".join(prices.sources)),
    ]
