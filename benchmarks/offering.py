"""What scenarios add to the latencies that they report; one caller's is in `benchmarks.loop`."""

from __future__ import annotations

import json

from benchmarks.figure import Figure, figure_of, run
from benchmarks.processes import fresh

REPEAT = 3
_CALLS = 20_000
_ARRIVALS = 600
_COMMAND = "python -m benchmarks.offering"
_OFFERED = (
    ("2 callers at once", "closed-loop", 2, None, 2),
    ("100 arrivals a second", "open-loop", 1, 100, 50),
    ("1000 arrivals a second", "open-loop", 1, 1000, 50),
)


def measure(repeat: int = REPEAT) -> list[Figure]:
    """Offer calls of a function that does nothing; medians of latencies in fresh processes."""
    # By its own name, since this file may be the command that is run.
    from benchmarks.offering import overhead

    figures = []
    for label, name, concurrency, rate, asked in _OFFERED:
        found = [fresh(overhead, name, concurrency, rate or 0) for _ in range(repeat)]
        medians = [samples[len(samples) // 2] / 1e3 for samples in found]
        worst = max(samples[len(samples) * 95 // 100] for samples in found) / 1e3
        what = f"the {name}'s own part of a latency, {label}"
        figures.append(figure_of(what, asked, "µs", medians, _COMMAND, f"P95 {worst:.2f} µs"))
    return figures


def overhead(name: str, concurrency: str, rate_per_s: str) -> None:
    """Tell what a scenario records for calls that do nothing, in ns."""
    from eipack.measuring.loop import without_garbage_collection
    from eipack.measuring.offering import offer
    from eipack.measuring.scenario import Scenario

    rate = float(rate_per_s) or None
    scenario = Scenario(name, int(concurrency), rate)  # type: ignore[arg-type]
    calls = _CALLS if rate is None else _ARRIVALS
    with without_garbage_collection():
        offered = offer(_nothing, ((), {}), scenario, calls=calls)
    print(json.dumps(sorted(offered.samples_ns)))


def _nothing() -> None:
    return None


if __name__ == "__main__":
    run(measure, REPEAT)
