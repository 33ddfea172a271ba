"""The order of choices by their costs, and which costs cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from attrs import evolve, frozen

from eipack.advisor.advice import By, Choice, Cost


@frozen
class Weighed:
    """A choice, and what its order depends on beside its cost.

    `noise_floor` is the relative difference that its report cannot tell from noise; `gap` is how
    far its worst figure is from the limit, as a ratio, infinite where it could not be used at all.
    """

    choice: Choice
    noise_floor: float = 0.0
    gap: float = 0.0


def cost_by(choice: Choice, by: By) -> Cost | None:
    """Return the cost that choices are compared by."""
    if by == "month":
        return None if choice.sizing is None else Cost(choice.sizing.usd_per_month)
    return choice.serial if by == "serial" else choice.saturated


def order(weighed: Sequence[Weighed], by: By) -> list[Weighed]:
    """Rank those that are not excluded, the cheapest first; the others follow by their cost.

    A choice shares the rank of the one that leads it where their intervals overlap, or they differ
    by no more than the larger of their noise floors. Of those that share one, such whose
    latencies drifted come last.
    """
    rest = sorted(
        (one for one in weighed if one.choice.excluded is None), key=lambda one: _usd(one, by)
    )
    ranked: list[Weighed] = []
    while rest:
        group = [one for one in rest if one is rest[0] or _tied(rest[0], one, by)]
        rest = [one for one in rest if one not in group]
        group.sort(key=lambda one: (one.choice.stable is False, _usd(one, by)))
        rank = len(ranked) + 1
        ranked += [evolve(one, choice=evolve(one.choice, rank=rank)) for one in group]
    excluded = (one for one in weighed if one.choice.excluded is not None)
    return [*ranked, *sorted(excluded, key=lambda one: _usd(one, by))]


def nearest(ordered: Sequence[Weighed]) -> Choice | None:
    """Return the excluded choice that misses by least, the cheaper one of two."""
    usable = [one for one in ordered if one.gap < inf]
    return min(usable, key=lambda one: one.gap).choice if usable else None


def _usd(one: Weighed, by: By) -> float:
    cost = cost_by(one.choice, by) or one.choice.serial
    return inf if cost is None else cost.usd


def _tied(leader: Weighed, other: Weighed, by: By) -> bool:
    least, cost = cost_by(leader.choice, by), cost_by(other.choice, by)
    if least is None or cost is None:
        return False
    floor = max(leader.noise_floor, other.noise_floor)
    return cost.usd <= least.usd * (1 + floor) or _lowest(cost) <= _highest(least)


def _lowest(cost: Cost) -> float:
    return cost.usd if cost.low is None else cost.low


def _highest(cost: Cost) -> float:
    if cost.high is None:
        return cost.usd if cost.low is None else inf
    return cost.high
