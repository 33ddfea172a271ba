"""All figures of one row of a report, from its latencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from eipack.statistics import early_stopping, steadiness
from eipack.statistics.figures import PERCENTILES
from eipack.statistics.intervals import Interval, mean_interval, percentile_interval
from eipack.statistics.percentiles import NS_PER_MS, mean_ms, percentile_ms


@frozen
class Summary:
    """Figures, and by their names their 95 % intervals and MLPerf's conservative estimates.

    A bound or an estimate is None where there are too few calls for one; `stable` is False where
    the latencies drift, None where there are too few to tell.
    """

    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    intervals: Mapping[str, Interval]
    conservative_ms: Mapping[str, float | None]
    stable: bool | None


def summarize(samples_ns: Sequence[int], turns: Sequence[int] | None = None) -> Summary:
    """Summarize latencies in the order in which they were made; `turns` are the turns' lengths.

    Raises:
        ValueError: There are none, or the turns do not add up to them.
    """
    if not samples_ns:
        raise ValueError("there are no latencies to summarize")
    enough = len(samples_ns) >= steadiness.FEWEST
    return Summary(
        mean_ms=mean_ms(samples_ns),
        **{name: percentile_ms(samples_ns, percent) for name, percent in PERCENTILES.items()},
        intervals=intervals_ms(samples_ns, turns),
        conservative_ms={
            name: _in_ms(early_stopping.estimate(samples_ns, percent))
            for name, percent in PERCENTILES.items()
        },
        stable=not steadiness.drifts(samples_ns, turns) if enough else None,
    )


def intervals_ms(
    samples_ns: Sequence[int], turns: Sequence[int] | None = None
) -> dict[str, Interval]:
    """Return the 95 % intervals of the mean and the percentiles by name, in ms."""
    found = {"mean_ms": mean_interval(samples_ns, turns=turns)}
    for name, percent in PERCENTILES.items():
        found[name] = percentile_interval(samples_ns, percent, turns=turns)
    return {name: (low / NS_PER_MS, _in_ms(high)) for name, (low, high) in found.items()}


def _in_ms(value_ns: float | None) -> float | None:
    return None if value_ns is None else value_ns / NS_PER_MS
