"""One turn of a scenario: the calls that lead in, and those that count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve

from eipack.measuring.offering import Offered, offer
from eipack.measuring.scenario import Scenario

if TYPE_CHECKING:
    from eipack.measuring.parts import Splitter
    from eipack.measuring.resources import Meter
    from eipack.session import Session

Arguments = tuple[Sequence[Any], Mapping[str, Any]]


def take(
    session: Session,
    arguments: Arguments,
    scenario: Scenario,
    meter: Meter,
    splitter: Splitter,
    asked: Mapping[str, Any],
) -> dict[str, Any]:
    """Offer `calls`, or calls for `seconds`, and return what they took.

    `lead` calls before them find the caches as somebody else left them; in an open loop they are
    the first arrivals, which find an empty queue. `began_ns` is by `perf_counter_ns`.
    """
    calls, seconds, lead = asked["calls"], asked["seconds"], asked["lead"]
    opens = scenario.name == "open-loop"
    if lead and not opens:
        offer(session, arguments, Scenario(), calls=lead)
    extra = lead if opens else 0
    if seconds is not None and scenario.rate_per_s:
        seconds += extra / scenario.rate_per_s
    splitter.start()
    meter.start()
    offered = offer(
        session,
        arguments,
        scenario,
        calls=None if calls is None else calls + extra,
        duration_s=seconds,
        seed=asked["seed"],
    )
    meter.stop(offered.made)
    splitter.stop()
    kept = _without_first(offered, min(extra, len(offered.samples_ns) - 1))
    return {
        "samples_ns": kept.samples_ns,
        "began_ns": [offered.start_ns + began for began in kept.began_ns],
        "elapsed_ns": kept.elapsed_ns,
        "discarded": kept.discarded + (0 if opens else lead),
        "unanswered": kept.unanswered,
    }


def _without_first(offered: Offered, count: int) -> Offered:
    """Leave out the first calls, and the time until the next one began."""
    if not count:
        return offered
    return evolve(
        offered,
        samples_ns=offered.samples_ns[count:],
        began_ns=offered.began_ns[count:],
        elapsed_ns=offered.elapsed_ns - offered.began_ns[count],
        discarded=offered.discarded + count,
        unanswered=min(offered.unanswered, len(offered.samples_ns) - count),
    )
