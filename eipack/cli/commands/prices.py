"""`eipack prices`: what machines cost an hour, and where that is known from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from eipack.cli.arguments import as_json, example
from eipack.cli.printing import note, print_json, print_table

if TYPE_CHECKING:
    from eipack.advisor import Catalogue, Price

_RIGHT = ("usd_per_hour", "vcpu", "memory_gib", "accelerator_memory_gib", "prices")


@click.group(epilog=example("eipack prices list", "eipack prices show ec2-2026-07"))
def prices() -> None:
    """Show the prices that eipack advise reckons with.

    Prices of one's own are a CSV file with the columns instance and usd_per_hour, and as far as
    they are known accelerator, vcpu, memory_gib, accelerator_memory_gib, region, basis, retrieved,
    source and currency.
    """


@prices.command(name="list", epilog=example("eipack prices list"))
@as_json
def list_catalogues(as_json: bool) -> None:
    """List the catalogues that eipack brings; the first is used unless another is named."""
    from eipack.advisor import builtin

    found = builtin()
    if as_json:
        print_json([_summary(one) for one in found])
        return
    columns = ("catalogue", "prices", "regions", "bases", "retrieved", "")
    print_table(columns, [_summary_cells(one) for one in found], right=_RIGHT)


@prices.command(epilog=example("eipack prices show ei-2020", "eipack prices show my-prices.csv"))
@click.argument("catalogue", metavar="[NAME|FILE]", required=False)
@as_json
def show(catalogue: str | None, as_json: bool) -> None:
    """Print every price of a catalogue, or of a CSV file.

    Without a name it is the catalogue that is used unless another is named.
    """
    from attrs import asdict

    from eipack.advisor.catalogue_files import DEFAULT
    from eipack.advisor.catalogue_files import catalogue as read
    from eipack.advisor.prices import warnings_about

    found = read(catalogue or DEFAULT)
    today = datetime.now(UTC).date()
    told = list(warnings_about(found.prices, historical=found.historical, today=today))
    if as_json:
        rows = [asdict(price) for price in found.prices]
        print_json({**_summary(found), "rows": rows, "warnings": told})
        return
    _print(found)
    for warning in told:
        note(f"warning: {warning}")


def _summary(catalogue: Catalogue) -> dict[str, object]:
    prices = catalogue.prices
    dates = sorted({price.retrieved for price in prices if price.retrieved})
    return {
        "name": catalogue.name,
        "historical": catalogue.historical,
        "prices": len(prices),
        "regions": sorted({price.region for price in prices if price.region}),
        "bases": sorted({price.basis for price in prices if price.basis}),
        "oldest": dates[0] if dates else "",
        "newest": dates[-1] if dates else "",
        "sources": sorted({price.source for price in prices if price.source}),
    }


def _summary_cells(catalogue: Catalogue) -> tuple[str, ...]:
    prices = catalogue.prices
    return (
        catalogue.name,
        str(len(prices)),
        ", ".join(sorted({price.region for price in prices})),
        ", ".join(sorted({price.basis for price in prices})),
        ", ".join(sorted({price.retrieved for price in prices})),
        "historical" if catalogue.historical else "",
    )


def _print(catalogue: Catalogue) -> None:
    columns = (
        "instance",
        "accelerator",
        "usd_per_hour",
        "vcpu",
        "memory_gib",
        "accelerator_memory_gib",
        "region",
        "basis",
        "retrieved",
        "source",
    )
    print_table(columns, [_cells(price) for price in catalogue.prices], right=_RIGHT)


def _cells(price: Price) -> tuple[str, ...]:
    return (
        price.instance,
        price.accelerator or "",
        f"{price.usd_per_hour:g}",
        _number(price.vcpu),
        _number(price.memory_gib),
        _number(price.accelerator_memory_gib),
        price.region,
        price.basis,
        price.retrieved,
        price.source,
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
