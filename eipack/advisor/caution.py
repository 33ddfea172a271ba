"""What to keep in mind with an advice: old prices, reports that differ, figures that drifted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path

from eipack.advisor.advice import Choice, PricesUsed
from eipack.advisor.candidates import Candidate
from eipack.advisor.prices import Catalogue, Price, warnings_about
from eipack.advisor.quotes import Quote
from eipack.errors import PriceNotFound, ReportRefused


def package_of(candidates: Sequence[Candidate], *, different_packages: bool) -> str:
    """Return the name of the package that was measured; of tables that of their files.

    Raises:
        ReportRefused: There are several, and that was not allowed.
    """
    by_digest: dict[str, str] = {}
    sources: dict[str, str] = {}
    for candidate in candidates:
        where = candidate.environment
        if where is not None:
            by_digest.setdefault(where.package_digest, where.package)
            sources.setdefault(where.package_digest, candidate.source)
    if len(by_digest) > 1 and not different_packages:
        told = (f"{by_digest[digest]} in {source}" for digest, source in sources.items())
        raise ReportRefused(
            f"the reports are of different packages ({', '.join(told)}); advise from those of "
            "one, or allow it: --different-packages",
            packages=tuple(by_digest.values()),
        )
    tables = (Path(one.source.rpartition(":")[0]).name for one in candidates)
    return ", ".join(dict.fromkeys(by_digest.values() or tables))


def used(listed: Catalogue, quotes: Sequence[Quote | PriceNotFound]) -> PricesUsed:
    """Say where the prices that were used come from."""
    prices = _prices(quotes)
    dates = [price.retrieved for price in prices if price.retrieved]
    return PricesUsed(
        catalogue=listed.name,
        currency="USD",
        regions=_distinct(price.region for price in prices),
        bases=_distinct(price.basis for price in prices),
        oldest=min(dates, default=""),
        newest=max(dates, default=""),
        sources=_distinct(price.source for price in prices),
        historical=listed.historical,
    )


def cautions(
    candidates: Sequence[Candidate],
    choices: Sequence[Choice],
    listed: Catalogue,
    quotes: Sequence[Quote | PriceNotFound],
    today: date,
) -> tuple[str, ...]:
    """Return the warnings of an advice."""
    prices = _prices(quotes)
    return (
        *warnings_about(prices, historical=listed.historical, today=today),
        *_of_reports(candidates),
        *_of_choices([choice for choice in choices if choice.excluded is None]),
    )


def _of_reports(candidates: Sequence[Candidate]) -> Iterator[str]:
    where = [one.environment for one in candidates if one.environment is not None]
    digests = {one.package_digest for one in where}
    if len(digests) > 1:
        yield f"the reports are of {len(digests)} different packages"
    for what, versions in (
        ("torch", sorted({one.torch for one in where})),
        ("eipack", sorted({one.eipack for one in where})),
    ):
        if len(versions) > 1:
            yield f"the reports were made with several versions of {what}: {', '.join(versions)}"
    figures_only = sum(not one.base.samples_ns and one.base.error is None for one in candidates)
    if figures_only:
        yield (
            f"only figures are known of {figures_only} of {len(candidates)} choices, no samples: "
            "they have no intervals, and a limit is kept where the figure keeps it"
        )


def _of_choices(ranked: Sequence[Choice]) -> Iterator[str]:
    loads = _distinct(choice.scenario for choice in ranked)
    if len(loads) > 1:
        yield f"calls of different kinds are compared ({'; '.join(loads)}); measure all by one"
    drifted = [choice.name for choice in ranked if choice.stable is False]
    if drifted:
        yield (
            f"the latencies of {', '.join(dict.fromkeys(drifted))} drifted while they were "
            "measured; measure again before you act on them"
        )
    one_caller = [c.name for c in ranked if c.sizing is not None and c.calls_per_s is None]
    if one_caller:
        yield (
            f"of {', '.join(dict.fromkeys(one_caller))} no throughput under load is known; "
            "sizing takes that of one caller"
        )


def _prices(quotes: Sequence[Quote | PriceNotFound]) -> tuple[Price, ...]:
    found = [price for one in quotes if isinstance(one, Quote) for price in one.prices]
    return tuple({(price.instance, price.accelerator): price for price in found}.values())


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({text for text in texts if text}))
