"""What a client that calls now and then suffers from one that floods the same accelerator."""

from __future__ import annotations

from contextlib import ExitStack
from math import ceil
from pathlib import Path
from statistics import median

from benchmarks import clients
from benchmarks.batching import begin, ending, serving
from benchmarks.figure import Figure, figure_of, run
from benchmarks.processes import FOLDER, child, fresh, line

REPEAT = 3
_FLOODING = 16
_SECONDS = 8.0
_PAUSE_S = 0.02


def measure(repeat: int = REPEAT) -> list[Figure]:
    """Compare the P99 of a light client beside a flood with its P99 alone, all of it fresh."""
    path = FOLDER / "batchable.eipack"
    fresh(clients.make_batchable, path)
    alone: list[float] = []
    beside: list[float] = []
    for turn in range(repeat):
        for flooded in (False, True) if turn % 2 else (True, False):
            (beside if flooded else alone).append(_p99_ms(path, flooded=flooded))
    return [
        figure_of(
            f"P99 of a light client beside one with {_FLOODING} calls at a time, against alone",
            3.0,
            "x",
            [there / here for there, here in zip(beside, alone, strict=True)],
            "python -m benchmarks.fairness",
            f"{median(beside):.2f} ms against {median(alone):.2f} ms; one call every "
            f"{_PAUSE_S * 1e3:.0f} ms, MLP, 1 row",
        )
    ]


def _p99_ms(path: Path, *, flooded: bool) -> float:
    """Serve, let the light client call for some seconds, and return its P99."""
    with serving() as endpoint, ExitStack() as stack:
        flood = None
        if flooded:
            flood = stack.enter_context(
                ending(child(clients.flood, endpoint, path, _FLOODING, _SECONDS + 2))
            )
            line(flood)
        light = stack.enter_context(
            ending(child(clients.light, endpoint, path, _SECONDS, _PAUSE_S))
        )
        line(light)
        for one in (flood, light):
            if one is not None:
                begin(one)
        latencies = sorted(line(light))
        if flood is not None:
            line(flood)
    p99: float = latencies[ceil(len(latencies) * 0.99) - 1] / 1e6
    return p99


if __name__ == "__main__":
    run(measure, REPEAT)
