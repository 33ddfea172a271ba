"""What an advice comes to, in words and figures: names of choices, costs, limits, reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from eipack.advisor.advice import Advice, Choice, PricesUsed
from eipack.advisor.saying import called

MEANING: Final[Mapping[str, tuple[str, str]]] = {
    "serial": (
        "USD for 100,000 calls",
        "cost of calls one after another: USD an hour / 3600 x mean latency in s x 100,000",
    ),
    "saturated": (
        "USD for 100,000 calls",
        (
            "cost at the highest throughput measured that meets the limits: "
            "USD an hour / 3600 / calls a second x 100,000"
        ),
    ),
    "month": ("USD a month", "cost of as many as serve the rate asked for, in 730 hours"),
}
"""The unit of each cost that choices are ranked by, and how it comes about."""


def headline(advice: Advice) -> str:
    """Return the advice in one sentence, as a title."""
    if not advice.choices:
        return "There is nothing to choose from"
    text = advice.sentence or "Costs and latencies"
    return text[0].upper() + text[1:] if advice.best is None else text


def limits_text(advice: Advice) -> str:
    """Write the limits: `p90 < 15 ms`."""
    limits = (f"{short(name)} < {limit:g} ms" for name, limit in advice.limits.items())
    return " and ".join(limits)


def short(name: str) -> str:
    """Return what a figure is called before its unit: `p90` for `p90_ms`."""
    return name.removesuffix("_ms")


def figure_of(advice: Advice) -> str:
    """Return the latency that the picture shows: p90, or else what is limited."""
    return "p90_ms" if "p90_ms" in advice.limits or not advice.limits else next(iter(advice.limits))


def names_of(advice: Advice) -> list[str]:
    """Name every choice as the sentence of the advice does."""
    return [called(choice, advice.choices) for choice in advice.choices]


def best_of(advice: Advice) -> int | None:
    """Return which of the choices is the best, by its number."""
    if advice.best is None or advice.best not in advice.choices:
        return None
    return advice.choices.index(advice.best)


def qualifies(choice: Choice) -> bool:
    """Tell whether a choice may be taken."""
    return choice.excluded is None and choice.verdict in (None, "pass")


def unsure(choice: Choice) -> bool:
    """Tell whether more calls might make a choice qualify."""
    return choice.verdict == "insufficient"


def reason(choice: Choice) -> str:
    """Say why a choice may not be taken; nothing where it may."""
    if choice.excluded is not None:
        return choice.excluded
    if unsure(choice):
        more = f"; {choice.more_calls:,} more are needed" if choice.more_calls else ""
        return f"too few calls to tell{more}"
    return "misses the limit" if choice.verdict == "fail" else ""


def prices_text(prices: PricesUsed | None) -> tuple[str, ...]:
    """Return what the prices are, of which day and from where."""
    if prices is None:
        return ("no prices",)
    days = (
        prices.oldest if prices.oldest == prices.newest else f"{prices.oldest} to {prices.newest}"
    )
    historical = " (historical)" if prices.historical else ""
    return (
        f"prices: {prices.catalogue}{historical}",
        ", ".join(prices.bases),
        ", ".join(prices.regions),
        f"{prices.currency}, retrieved {days}" if days else prices.currency,
        f"source: {', '.join(prices.sources)}" if prices.sources else "",
    )
