"""What machines cost an hour: one price, and catalogues of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from typing import Final

from attrs import field, frozen

from eipack.errors import PriceNotFound

GIB: Final = 1 << 30
STALE_DAYS: Final = 180
"""List prices of machines change about once or twice a year."""


@frozen
class Price:
    """What one machine costs an hour, and what it has.

    `accelerator` is the one attached to it (`eia2.medium`, see `is_attached`), whose price is then
    in `usd_per_hour` too, or the one built into it (`T4`). The price of an accelerator alone
    stands under its own name as `instance`. `retrieved` is a date, or only its year or month.
    """

    instance: str
    accelerator: str | None
    usd_per_hour: float
    vcpu: float | None = None
    memory_gib: float | None = None
    accelerator_memory_gib: float | None = None
    region: str = ""
    basis: str = ""
    retrieved: str = ""
    source: str = ""
    currency: str = "USD"


@frozen
class Catalogue:
    """Prices by what they are for; those of a `historical` one are no longer to be had."""

    name: str
    historical: bool
    prices: tuple[Price, ...]
    _by_pair: Mapping[tuple[str, str | None], Price] = field(init=False, repr=False, eq=False)

    @_by_pair.default
    def _index(self) -> Mapping[tuple[str, str | None], Price]:
        return {(price.instance, price.accelerator): price for price in self.prices}

    @property
    def says_gpus(self) -> bool:
        """Whether it says what is built into machines; then one that has none has no GPU."""
        return any(
            price.accelerator and not is_attached(price.accelerator) for price in self.prices
        )

    def price_of(self, instance: str, accelerator: str | None = None) -> tuple[Price, ...]:
        """Return the prices that add up to that of a machine and what is attached to it.

        That is one where the catalogue has the pair, or the machine with what is built into it,
        else the machine's and the accelerator's own.

        Raises:
            PriceNotFound: There is none.
        """
        exact = self._by_pair.get((instance, accelerator))
        if exact is not None:
            return (exact,)
        machine = self._by_pair.get((instance, None)) or self._with_built_in(instance)
        if accelerator is None and machine is not None:
            return (machine,)
        own = None if accelerator is None else self._by_pair.get((accelerator, None))
        if machine is None:
            raise self._unknown(instance, accelerator)
        if own is None:
            raise PriceNotFound(
                f"the catalogue {self.name} has no price of {accelerator}; give it: "
                f"--accelerator-price {accelerator}=0.12",
                accelerator=accelerator,
            )
        return machine, own

    def _with_built_in(self, instance: str) -> Price | None:
        found = [
            price
            for price in self.prices
            if price.instance == instance and not is_attached(price.accelerator)
        ]
        return found[0] if len(found) == 1 else None

    def _unknown(self, instance: str, accelerator: str | None) -> PriceNotFound:
        attached = [price.accelerator for price in self.prices if price.instance == instance]
        if attached:
            with_what = ", ".join(str(name) for name in attached)
            what = f"{instance} only with {with_what}"
            alone = "alone" if accelerator is None else f"with {accelerator}"
            return PriceNotFound(
                f"the catalogue {self.name} has {what}, not {alone}; add it to a CSV file "
                "of your own: --prices FILE.csv",
                instance=instance,
            )
        known = {price.instance: None for price in self.prices}
        near = get_close_matches(instance, known, n=3)
        guess = (
            f"; did you mean {' or '.join(near)}?"
            if near
            else f"; see: eipack prices show {self.name}"
        )
        return PriceNotFound(
            f"the catalogue {self.name} has no price of {instance}{guess}", instance=instance
        )


def is_attached(accelerator: str | None) -> bool:
    """Tell whether an accelerator hangs on a machine by the network: `eia2.medium`, `custom`.

    All others, `T4`, are part of the machine.
    """
    return accelerator is not None and (accelerator.startswith("eia") or accelerator == "custom")


def warnings_about(prices: Sequence[Price], *, historical: bool, today: date) -> Iterator[str]:
    """Say why prices should not be taken at face value, or not be compared with each other."""
    for what, values in (
        ("regions", _distinct(price.region for price in prices)),
        ("bases", _distinct(price.basis for price in prices)),
    ):
        if len(values) > 1:
            yield f"prices of several {what} are compared: {', '.join(values)}"
    if historical:
        yield "these prices are historical: nobody can rent at them any more"
        return
    undated = [price for price in prices if not price.retrieved]
    if undated:
        yield f"nobody knows how old the price of {undated[0].instance} is: it has no date"
    oldest = min((price.retrieved for price in prices if price.retrieved), default=None)
    age = None if oldest is None else (today - day(oldest)).days
    if age is not None and age > STALE_DAYS:
        yield f"the oldest price is {age} days old ({oldest}); check it before you act on it"


def day(text: str) -> date:
    """Read a date, or a year or month as its first day.

    Raises:
        ValueError: It is none.
    """
    return date.fromisoformat(text + "-01" * (2 - text.count("-")))


def _distinct(texts: Iterable[str]) -> list[str]:
    return sorted({text or "(none)" for text in texts})
