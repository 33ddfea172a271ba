"""What one way of running costs an hour: the machine, and the accelerator that it attaches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from attrs import frozen

from eipack.advisor.prices import GIB, Catalogue, Price

_GB: Final = 1_000_000_000
_SLICE_GB: Final = {
    "eia1.medium": 1,
    "eia1.large": 2,
    "eia1.xlarge": 4,
    "eia2.medium": 2,
    "eia2.large": 4,
    "eia2.xlarge": 8,
}
"""The memory of the types that Elastic Inference had, which slices are still made in."""


@frozen
class OwnPrice:
    """What an accelerator costs: so much an hour, or `1 / parts` of a machine of the catalogue."""

    usd_per_hour: float | None = None
    machine: str | None = None
    parts: float = 1.0

    @classmethod
    def parse(cls, value: float | str) -> OwnPrice:
        """Read `0.12`, or `g4dn.xlarge/4` for a quarter of that machine's price.

        Raises:
            ValueError: It reads otherwise, is not above 0, or is more than a whole machine.
        """
        machine, slash, divisor = str(value).partition("/")
        number = _number(divisor if slash else machine)
        least = 1 if slash else 0
        if not machine or not least <= number < math.inf or not number:
            raise ValueError(
                f"an accelerator's price is {value!r}; write US dollars an hour (0.12) or the "
                "share of a machine (g4dn.xlarge/4)"
            )
        return cls(machine=machine, parts=number) if slash else cls(usd_per_hour=number)


@frozen
class Quote:
    """A price, the entries of the catalogue that it is made of, and the memory that comes with it.

    `memory_bytes` is the machine's, `accelerator_bytes` that of the device in it or attached to it.
    """

    usd_per_hour: float
    prices: tuple[Price, ...]
    memory_bytes: int | None
    accelerator_bytes: int | None


def quote(
    catalogue: Catalogue, own: Mapping[str, OwnPrice], instance: str, accelerator: str | None
) -> Quote:
    """Price a machine and what is attached to it; `own` prices go before the catalogue's.

    Raises:
        PriceNotFound: The catalogue lacks one of them.
    """
    if accelerator is not None and accelerator in own:
        return _with_own_price(catalogue, own[accelerator], instance, accelerator)
    found = catalogue.price_of(instance, accelerator)
    device_gib = found[-1].accelerator_memory_gib
    device = None if device_gib is None else round(device_gib * GIB)
    return Quote(
        sum(price.usd_per_hour for price in found),
        found,
        _memory_bytes(found[0]),
        _slice_bytes(accelerator) if device is None else device,
    )


def _with_own_price(
    catalogue: Catalogue, given: OwnPrice, instance: str, accelerator: str
) -> Quote:
    (machine,) = catalogue.price_of(instance)
    if given.machine is None:
        usd_per_hour = machine.usd_per_hour + (given.usd_per_hour or 0.0)
        return Quote(usd_per_hour, (machine,), _memory_bytes(machine), _slice_bytes(accelerator))
    (lender,) = catalogue.price_of(given.machine)
    usd_per_hour = machine.usd_per_hour + lender.usd_per_hour / given.parts
    share = lender.accelerator_memory_gib
    device = None if share is None else round(share * GIB / given.parts)
    return Quote(
        usd_per_hour,
        (machine, lender),
        _memory_bytes(machine),
        _slice_bytes(accelerator) or device,
    )


def _memory_bytes(machine: Price) -> int | None:
    return None if machine.memory_gib is None else round(machine.memory_gib * GIB)


def _slice_bytes(accelerator: str | None) -> int | None:
    gigabytes = _SLICE_GB.get(accelerator or "")
    return None if gigabytes is None else gigabytes * _GB


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
