"""What `eipack.benchmark` adds to every latency that it reports."""

from __future__ import annotations

from benchmarks import children
from benchmarks.figure import Figure, figure_of, run
from benchmarks.processes import fresh

REPEAT = 5
_CALLS = 100_000


def measure(repeat: int = REPEAT) -> list[Figure]:
    """Time 100,000 calls of a function that does nothing; median and P95 in fresh processes."""
    found = [fresh(children.loop_overhead, _CALLS) for _ in range(repeat)]
    medians = [samples[len(samples) // 2] / 1e3 for samples in found]
    worst = max(samples[len(samples) * 95 // 100] for samples in found) / 1e3
    what = "the measuring loop's own part of a latency"
    detail = f"P95 {worst:.2f} µs"
    return [figure_of(what, 2, "µs", medians, "python -m benchmarks.loop", detail)]


if __name__ == "__main__":
    run(measure, REPEAT)
