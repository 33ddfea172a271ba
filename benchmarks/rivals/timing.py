"""The clock of clients that run without eipack: the same loop as `eipack.measuring.loop` has."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable
from statistics import median
from time import perf_counter_ns

WARM_UP = 200


def pin(core: str) -> None:
    """Keep this process, and what it starts, on one core."""
    os.sched_setaffinity(0, {int(core)})


def tell_p50(call: Callable[[], int], expected: int, calls: int) -> None:
    """Print the median of a call's durations in ns, once it answers what is expected.

    Raises:
        RuntimeError: It answers something else.
    """
    for _ in range(WARM_UP):
        if (found := call()) != expected:
            raise RuntimeError(f"{found} bytes came back, not {expected}")
    gc.collect()
    gc.disable()
    samples: list[int] = []
    for _ in range(calls):
        start = perf_counter_ns()
        call()
        samples.append(perf_counter_ns() - start)
    print(json.dumps(median(samples)), flush=True)
