"""What a session adds to a call: checks, inference mode, and the nesting of the outputs."""

from __future__ import annotations

from statistics import median

from benchmarks import children
from benchmarks.figure import Figure, figure_of, run
from benchmarks.packages import package, standalone
from benchmarks.processes import fresh

REPEAT = 5
_CALLS = 20_000


def measure(repeat: int = REPEAT) -> list[Figure]:
    """Time 20,000 calls of each, taking turns, in fresh processes; medians and their difference."""
    packed, file = package("small"), standalone("small")
    pairs = [fresh(children.call_overhead, packed, file, _CALLS) for _ in range(repeat)]
    bare = median(module for _, module in pairs) / 1e3
    added = [(session - module) / 1e3 for session, module in pairs]
    what = "session call beyond the bare ScriptModule, 3 operators"
    detail = f"bare {bare:.1f} µs"
    return [figure_of(what, 15, "µs", added, "python -m benchmarks.call", detail)]


if __name__ == "__main__":
    run(measure, REPEAT)
