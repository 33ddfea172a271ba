"""How long is measured, in which scenarios, and how long a turn lasts."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf
from typing import Final

from attrs import frozen

from eipack.measuring.scenario import Scenario

STABLE_S: Final = 60.0
"""How long rows are measured at most until they are stable, if nobody says."""
TURN_S: Final = 0.25
"""How long a turn lasts: far shorter than a clock or neighbour drifts, far longer than a switch."""
OPEN_TURN_S: Final = 1.5
"""An open loop's: each of its turns begins with an empty queue, which has to fill."""
_LEAD_NS: Final = 2_000_000
_MOST_LEAD: Final = 50
LEAD_S: Final = 0.25
"""How much of an open loop's turn passes before its arrivals count."""
SHORTEST_TURN: Final = 5
TURNS: Final = 10
"""In how many turns the calls are made at least, as far as the shortest turn allows."""
_NS_PER_S: Final = 1e9


@frozen
class Plan:
    """How long each row is measured: for so many calls, or for so many seconds.

    Where it is measured `until_stable`, the seconds are the most that it may take.
    """

    calls: int | None
    duration_s: float | None
    until_stable: bool = False
    seed: int = 0

    @classmethod
    def of(cls, calls: int, duration_s: float | None, *, until_stable: bool, seed: int = 0) -> Plan:
        """Make a plan of what the caller asked for; a duration stands in place of the calls.

        Raises:
            ValueError: There is not one call to make, or no time, or the seed is below 0.
        """
        if calls < 1:
            raise ValueError(f"calls is {calls}; a benchmark makes at least one call")
        if duration_s is not None and not 0 < duration_s < inf:
            raise ValueError(f"duration_s is {duration_s:g}; give seconds above 0")
        if seed < 0:
            raise ValueError(f"seed is {seed}; give 0 or more")
        if until_stable and duration_s is None:
            duration_s = STABLE_S
        return cls(None if duration_s is not None else calls, duration_s, until_stable, seed)


@frozen
class Turns:
    """How a row's measuring is cut into turns: `count` of so many calls, or of so many seconds."""

    count: int
    calls: int | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, plan: Plan, scenario: Scenario, pace_ns: float) -> Turns:
        """Cut a row's measuring into turns, if so much time passes from one answer to the next."""
        opens = scenario.name == "open-loop"
        long_s = OPEN_TURN_S if opens else TURN_S
        if plan.calls is not None:
            fitting = int(long_s * _NS_PER_S / max(pace_ns, 1))
            share = plan.calls if opens else plan.calls // TURNS
            calls = max(SHORTEST_TURN, min(fitting, share))
            return cls(ceil(plan.calls / calls), calls=min(calls, plan.calls))
        duration = plan.duration_s or 0.0
        seconds = max(
            min(long_s, duration / (1 if opens else TURNS)), SHORTEST_TURN * pace_ns / _NS_PER_S
        )
        count = max(1, round(duration / seconds))
        return cls(count, seconds=duration / count)


def pace_of(scenario: Scenario, pace_ns: float) -> float:
    """Return the time from one call to the next: an open loop's is that of its arrivals."""
    return _NS_PER_S / scenario.rate_per_s if scenario.rate_per_s else pace_ns


def lead_of(scenario: Scenario, pace_ns: float, *, shared: bool) -> int:
    """Return how many calls lead into a turn, which do not count.

    An open loop's are the arrivals that find an empty queue. Other turns need none unless somebody
    else had one before, who leaves the caches as they are: then one call, of quick ones several.
    """
    if scenario.name == "open-loop":
        return ceil(LEAD_S * (scenario.rate_per_s or 0.0))
    return max(1, min(_MOST_LEAD, int(_LEAD_NS / max(pace_ns, 1)))) if shared else 0


def scenarios_of(
    concurrency: Sequence[int],
    rate_per_s: Sequence[float],
    batch: Sequence[int],
    *,
    offline: bool,
) -> tuple[Scenario, ...]:
    """List the scenarios: one caller always, and what else is asked for, at each size of the batch.

    Raises:
        ValueError: A number is below what makes sense.
    """
    for name, values in (("concurrency", concurrency), ("batch", batch)):
        if any(value < 1 for value in values):
            raise ValueError(f"{name} is {min(values)}; give 1 or more")
    if not all(0 < value < inf for value in rate_per_s):
        raise ValueError(f"rate_per_s is {min(rate_per_s):g}; give calls a second above 0")
    found = [
        one
        for size in (tuple(batch) or (None,))
        for one in (
            Scenario(batch=size),
            *(Scenario("closed-loop", many, batch=size) for many in concurrency if many > 1),
            *(Scenario("open-loop", rate_per_s=rate, batch=size) for rate in rate_per_s),
            *((Scenario("offline", batch=size),) if offline else ()),
        )
    ]
    return tuple(dict.fromkeys(found))
