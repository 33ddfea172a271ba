"""`eipack.advise`: the cheapest hardware that keeps the limits, and why not the others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import inf, isfinite

from attrs import evolve

from eipack.advisor.advice import Advice, By
from eipack.advisor.candidates import Candidate, distinct
from eipack.advisor.catalogue_files import DEFAULT, catalogue
from eipack.advisor.caution import cautions, package_of, used
from eipack.advisor.measured import Measured, candidates_of
from eipack.advisor.prices import Catalogue
from eipack.advisor.quotes import OwnPrice, Quote, quote
from eipack.advisor.ranking import Weighed, cost_by, nearest, order
from eipack.advisor.saying import sentence
from eipack.advisor.sizing import MAX_UTILISATION
from eipack.advisor.weighing import Question, weigh
from eipack.errors import PriceNotFound
from eipack.measuring.report import Report
from eipack.statistics.figures import FIGURES


def advise(
    reports: Measured | Sequence[Measured],
    *,
    prices: str | os.PathLike[str] | Catalogue = DEFAULT,
    mean_ms: float | None = None,
    p50_ms: float | None = None,
    p90_ms: float | None = None,
    p95_ms: float | None = None,
    p99_ms: float | None = None,
    min_memory_gb: float | None = None,
    qps: float | None = None,
    max_utilisation: float = MAX_UTILISATION,
    instance: str | None = None,
    accelerators: Mapping[str, float | str] | None = None,
    by: By | None = None,
    different_packages: bool = False,
) -> Advice:
    """Say which of the machines that were measured keeps the limits at the lowest cost.

    `reports` are values, files of `eipack bench --json` (`report.json`, or `report.json@c5.large`
    to say where it was measured) and CSV files of latencies with the columns `instance` and
    `mean_ms`, and `accelerator`, `target`, `p50_ms`, `p90_ms`, `p95_ms` and `p99_ms` if known.
    `prices` is a catalogue's name or a CSV file; `accelerators` has prices of attached ones, in US
    dollars an hour or as the share of a machine (`"g4dn.xlarge/4"`), before the catalogue's.
    `instance` is where reports were measured that do not say so.

    A limit is kept where the samples show it with 99 % confidence. `min_memory_gb` (10^9 bytes) is
    asked of where the model lies: the device, or the host for a CPU. `qps` asks how many of each
    choice serve so many calls a second at a utilisation of at most `max_utilisation`. Choices are
    ranked `by` their cost per month where `qps` is given, else saturated where that is known of
    all that qualify, else serial.

    Raises:
        ReportRefused: A report cannot be read, nobody says on which instance it was measured, or
            they are of `different_packages`, which was not allowed.
        TableRefused: A table of prices or latencies cannot be read, or something in it is wrong.
        PriceNotFound: There is no such catalogue, or nothing has a price in it.
        ValueError: There are no reports, or a number is out of range.
    """
    several = [reports] if isinstance(reports, Report | str | os.PathLike) else list(reports)
    figures = dict(zip(FIGURES, (mean_ms, p50_ms, p90_ms, p95_ms, p99_ms), strict=True))
    limits = {figure: limit for figure, limit in figures.items() if limit is not None}
    _check(several, limits, min_memory_gb, qps, max_utilisation, by)
    own = {name: OwnPrice.parse(value) for name, value in (accelerators or {}).items()}
    listed = catalogue(prices)
    candidates = distinct(candidates_of(several, instance, listed))
    package = package_of(candidates, different_packages=different_packages)
    quotes = _quotes(candidates, listed, own)
    question = Question(limits, min_memory_gb, qps, max_utilisation)
    pairs = zip(candidates, quotes, strict=True)
    weighed = [weigh(candidate, priced, question) for candidate, priced in pairs]
    chosen_by = by or _usual(weighed, qps)
    ordered = order([_ranked_by(one, chosen_by) for one in weighed], chosen_by)
    choices = tuple(one.choice for one in ordered)
    best = choices[0] if choices[0].excluded is None else None
    miss = nearest(ordered) if best is None else None
    return Advice(
        schema_version=1,
        package=package,
        limits=limits,
        choices=choices,
        best=best,
        nearest=miss,
        by=chosen_by,
        sentence=sentence(choices, limits, min_memory_gb, chosen_by, miss),
        prices=used(listed, quotes),
        warnings=cautions(candidates, choices, listed, quotes, datetime.now(UTC).date()),
    )


def _check(
    several: Sequence[Measured],
    limits: Mapping[str, float],
    min_memory_gb: float | None,
    qps: float | None,
    max_utilisation: float,
    by: By | None,
) -> None:
    if not several:
        raise ValueError("there is nothing to advise from; name a report of eipack bench")
    numbers = {**limits, "min_memory_gb": min_memory_gb, "qps": qps}
    for name, value in numbers.items():
        if value is not None and not (isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value}; it has to be a number above 0")
    if not 0 < max_utilisation <= 1:
        raise ValueError(f"max_utilisation is {max_utilisation}; write a share such as 0.7")
    if by == "month" and qps is None:
        raise ValueError("a cost a month needs the rate that is to be served; give qps")


def _quotes(
    candidates: Sequence[Candidate], listed: Catalogue, own: Mapping[str, OwnPrice]
) -> list[Quote | PriceNotFound]:
    """Price every candidate; one without a price keeps the reason.

    Raises:
        PriceNotFound: None has a price.
    """
    found: list[Quote | PriceNotFound] = []
    for candidate in candidates:
        try:
            found.append(_quote(candidate, listed, own))
        except PriceNotFound as error:
            found.append(error)
    reasons = [one for one in found if isinstance(one, PriceNotFound)]
    if len(reasons) == len(found):
        raise reasons[0]
    return found


def _quote(candidate: Candidate, listed: Catalogue, own: Mapping[str, OwnPrice]) -> Quote:
    """Price a candidate.

    Raises:
        PriceNotFound: The catalogue lacks it, or has its machine as one without a GPU.
    """
    found = quote(listed, own, candidate.instance, candidate.accelerator)
    lacks_gpu = listed.says_gpus and found.prices[0].accelerator is None
    if candidate.kind == "gpu" and candidate.base.error is None and lacks_gpu:
        raise PriceNotFound(
            f"it was measured on {candidate.base.ran_on or candidate.base.target}, and "
            f"{candidate.instance} has no GPU in the catalogue {listed.name}; correct the "
            "instance, or name prices of your own: --prices FILE.csv",
            instance=candidate.instance,
        )
    return found


def _usual(weighed: Iterable[Weighed], qps: float | None) -> By:
    if qps is not None:
        return "month"
    eligible = [one.choice for one in weighed if one.choice.excluded is None]
    return "saturated" if eligible and all(one.saturated for one in eligible) else "serial"


def _ranked_by(one: Weighed, by: By) -> Weighed:
    """Exclude what has no cost of the kind that is compared."""
    if one.choice.excluded is not None or cost_by(one.choice, by) is not None:
        return one
    lacks = {
        "serial": "it was measured under load alone; its serial cost takes single-stream",
        "saturated": "its throughput under load was not measured, or kept no limit",
        "month": "what one of it can serve was not measured",
    }
    return evolve(one, choice=evolve(one.choice, excluded=lacks[by]), gap=inf)
