"""Catalogues of prices: the files they are read from, and those that eipack brings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from eipack.advisor.prices import Catalogue, Price, day
from eipack.advisor.tables import Line, read_table
from eipack.errors import PriceNotFound

DEFAULT: Final = "ec2-2026-07"
_HISTORICAL: Final = {"ec2-2026-07": False, "ei-2020": True}
_FOLDER: Final = Path(__file__).with_name("catalogues")

REQUIRED: Final = ("instance", "usd_per_hour")
COLUMNS: Final = (
    *REQUIRED,
    "accelerator",
    "vcpu",
    "memory_gib",
    "accelerator_memory_gib",
    "region",
    "basis",
    "retrieved",
    "source",
    "currency",
)


def builtin() -> tuple[Catalogue, ...]:
    """Return the catalogues that eipack brings, the default one first."""
    return tuple(
        Catalogue(name, historical, _prices(_FOLDER / f"{name}.csv"))
        for name, historical in _HISTORICAL.items()
    )


def catalogue(name_or_file: str | os.PathLike[str] | Catalogue) -> Catalogue:
    """Return a catalogue by its name, or read it from a file.

    Raises:
        PriceNotFound: There is no such one.
        TableRefused: Something is wrong with the file.
    """
    if isinstance(name_or_file, Catalogue):
        return name_or_file
    for one in builtin() if name_or_file in _HISTORICAL else ():
        if one.name == name_or_file:
            return one
    name = os.fspath(name_or_file)
    if not Path(name).exists():
        raise PriceNotFound(
            f"there is no catalogue or file {name!r}; catalogues are {' and '.join(_HISTORICAL)} "
            "(see: eipack prices list)",
            name=name,
        )
    return read_catalogue(name_or_file)


def read_catalogue(path: str | os.PathLike[str]) -> Catalogue:
    """Read prices from a CSV file; `instance` and `usd_per_hour` are all that it needs.

    Raises:
        TableRefused: It cannot be read, lacks a column, has something twice, or has a price that is
            no number above 0 or is in another currency than US dollars.
    """
    return Catalogue(Path(path).name, historical=False, prices=_prices(path))


def _prices(path: str | os.PathLike[str]) -> tuple[Price, ...]:
    lines = read_table(path, required=REQUIRED, known=COLUMNS)
    prices = tuple(_price(line) for line in lines)
    _refuse_duplicates(lines, prices)
    return prices


def _price(line: Line) -> Price:
    currency = line.cells.get("currency", "USD")
    if currency.upper() != "USD":
        raise line.wrong(f"the price is in {currency}; convert it to US dollars (USD)")
    line.text("usd_per_hour")
    return Price(
        instance=line.text("instance"),
        accelerator=line.cells.get("accelerator"),
        usd_per_hour=line.positive("usd_per_hour") or 0.0,
        vcpu=line.positive("vcpu"),
        memory_gib=line.positive("memory_gib"),
        accelerator_memory_gib=line.positive("accelerator_memory_gib"),
        region=line.cells.get("region", ""),
        basis=line.cells.get("basis", ""),
        retrieved=_date(line),
        source=line.cells.get("source", ""),
    )


def _date(line: Line) -> str:
    text = line.cells.get("retrieved", "")
    try:
        if text:
            day(text)
    except ValueError as error:
        raise line.wrong(f"retrieved is {text!r}; write a date such as 2026-07-20") from error
    return text


def _refuse_duplicates(lines: Sequence[Line], prices: Sequence[Price]) -> None:
    first: dict[tuple[str, str | None], Line] = {}
    for line, price in zip(lines, prices, strict=True):
        above = first.setdefault((price.instance, price.accelerator), line)
        if above is not line:
            with_what = f" with {price.accelerator}" if price.accelerator else ""
            raise line.wrong(
                f"{price.instance}{with_what} has a price already, in line {above.number}; "
                "keep one of the two (a region or basis needs a file of its own)"
            )
