"""The advice in words: one sentence, and the numbers in it as people write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, log10

from eipack.advisor.advice import By, Choice
from eipack.advisor.ranking import cost_by

_WHAT = {
    "serial": "per 100,000 calls",
    "saturated": "per 100,000 calls at the highest throughput",
    "month": "a month",
}


def sentence(
    choices: Sequence[Choice],
    limits: Mapping[str, float],
    min_memory_gb: float | None,
    by: By,
    nearest: Choice | None,
) -> str:
    """Say which choice is best, or which comes nearest where none will do."""
    asked = asked_text(limits, min_memory_gb)
    ranked = [choice for choice in choices if choice.excluded is None]
    if ranked:
        return _best(ranked, choices, asked, by)
    if nearest is None:
        return "nothing that was measured can be recommended; the table says why"
    text = f"nothing that was measured {asked or 'can be recommended'}; "
    text += f"{called(nearest, choices)} comes nearest: {nearest.excluded}"
    worst = max((nearest.latencies.get(name, 0.0) / ms for name, ms in limits.items()), default=0.0)
    if nearest.verdict != "fail" or worst <= 1:
        return text
    return f"{text}; it would have to take {100 * (1 - 1 / worst):.0f} % less time"


def _best(ranked: Sequence[Choice], choices: Sequence[Choice], asked: str, by: By) -> str:
    best = ranked[0]
    name = called(best, choices)
    text = f"{name} {asked} at" if asked else f"{name} has"
    cost = cost_by(best, by)
    text += f" the lowest cost: {usd_text(cost.usd) if cost else 'unknown'} {_WHAT[by]}"
    if best.sizing is not None:
        serve = "one serves" if best.sizing.count == 1 else f"{best.sizing.count:,} of them serve"
        text += f", where {serve} {best.sizing.qps:g} calls a second"
    level = [called(choice, choices) for choice in ranked[1:] if choice.rank == best.rank]
    if level:
        text += f"; {_listed(level)} cannot be told apart from it by cost"
    return text


def called(choice: Choice, choices: Sequence[Choice]) -> str:
    """Return the name of a choice, with what tells it from others of that name."""
    name = choice.name
    same = [one for one in choices if one.name == name and one.latencies and one != choice]
    for field, text in (
        ("target", f" on {choice.target}"),
        ("program", f" by {choice.program}"),
        ("precision", f" in {choice.precision}"),
        ("source", f" ({choice.source})"),
    ):
        alike = [one for one in same if getattr(one, field) == getattr(choice, field)]
        name += "" if len(alike) == len(same) else text
        same = alike
    return name


def asked_text(limits: Mapping[str, float], min_memory_gb: float | None) -> str:
    """Write what is asked for as `meets p90 < 15 ms and mean < 12 ms`."""
    kept = [f"{name.removesuffix('_ms')} < {ms:g} ms" for name, ms in limits.items()]
    meets = [f"meets {' and '.join(kept)}"] if kept else []
    has = [] if min_memory_gb is None else [f"has {min_memory_gb:g} GB of memory"]
    return " and ".join([*meets, *has])


def usd_text(usd: float) -> str:
    """Write an amount in dollars and cents, or smaller ones by their first two digits."""
    return f"${usd:,.2f}" if usd >= 0.01 else f"${_digits(usd, 2)}"


def usd_digits(usd: float) -> str:
    """Write an amount by its first three digits at least, without the sign."""
    return f"{usd:,.2f}" if usd >= 1 else _digits(usd, 3)


def _digits(usd: float, count: int) -> str:
    return f"{usd:.{count - 1 - floor(log10(usd))}f}" if usd > 0 else "0"


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
