"""What one candidate costs, whether it keeps the limits, and what else speaks against it."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from attrs import evolve, frozen

from eipack.advisor.advice import Choice
from eipack.advisor.candidates import Candidate
from eipack.advisor.costs import highest_throughput, saturated_cost, serial_cost
from eipack.advisor.judging import Judged, judge
from eipack.advisor.memory import lack_of, memory_of
from eipack.advisor.quotes import Quote
from eipack.advisor.ranking import Weighed
from eipack.advisor.sizing import size
from eipack.errors import PriceNotFound
from eipack.statistics.figures import FIGURES


@frozen
class Question:
    """What is asked of every candidate."""

    limits: Mapping[str, float]
    min_memory_gb: float | None
    qps: float | None
    max_utilisation: float


def weigh(candidate: Candidate, priced: Quote | PriceNotFound, question: Question) -> Weighed:
    """Return a candidate as a choice, with all but its rank."""
    offer = priced if isinstance(priced, Quote) else None
    judged = judge(candidate.base, question.limits)
    choice = _with_costs(_choice(candidate, offer, judged), candidate, question)
    on_host = candidate.kind == "cpu"
    lack = lack_of(choice.memory, on_host=on_host, min_memory_gb=question.min_memory_gb)
    unusable = _unusable(candidate, priced)
    reason = unusable or (lack.reason if lack else judged.reason)
    gap = inf if unusable else max(judged.gap, lack.gap if lack else 0.0)
    return Weighed(evolve(choice, excluded=reason), candidate.noise_floor, gap)


def _choice(candidate: Candidate, offer: Quote | None, judged: Judged) -> Choice:
    base = candidate.base
    known = {name: value for name in FIGURES if (value := getattr(base, name)) is not None}
    return Choice(
        instance=candidate.instance,
        accelerator=candidate.accelerator,
        kind=candidate.kind,
        target=base.ran_on or base.target,
        program=base.program,
        precision=base.precision,
        source=candidate.source,
        usd_per_hour=None if offer is None else offer.usd_per_hour,
        latencies=known,
        intervals={name: base.intervals[name] for name in known if name in base.intervals},
        scenario=str(base.scenario),
        calls=len(base.samples_ns),
        stable=base.stable,
        memory=memory_of(candidate, offer),
        verdict=None if base.error else judged.verdict,
        more_calls=judged.more_calls,
    )


def _with_costs(choice: Choice, candidate: Candidate, question: Question) -> Choice:
    """Add the highest throughput, and what calls cost where there is a price."""
    usd_per_hour = choice.usd_per_hour
    throughput = highest_throughput(candidate, question.limits)
    if throughput is not None:
        scenario, rate = throughput.scenario, throughput.calls_per_s
        choice = evolve(choice, saturated_scenario=scenario, calls_per_s=rate)
    if usd_per_hour is None or candidate.base.error is not None:
        return choice
    saturated = saturated_cost(usd_per_hour, throughput) if throughput else None
    choice = evolve(choice, serial=serial_cost(usd_per_hour, candidate.base), saturated=saturated)
    if question.qps is None:
        return choice
    return evolve(choice, sizing=size(choice, question.qps, question.max_utilisation))


def _unusable(candidate: Candidate, priced: Quote | PriceNotFound) -> str | None:
    """Say why a candidate cannot be recommended whatever the limits, or None."""
    base = candidate.base
    if base.wrong:
        return f"its outputs are wrong: {base.error or 'not the recorded ones'}"
    if base.error is not None:
        return f"it failed: {base.error}"
    if isinstance(priced, PriceNotFound):
        return f"it has no price: {priced}"
    if base.mean_ms is None or base.mean_ms <= 0:
        return "no calls were timed; measure it again"
    if len(base.samples_ns) == 1:
        return "one call says nothing of the next; measure more"
    return None
