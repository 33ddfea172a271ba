"""The measuring loop: the only place where a call is timed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter_ns
from typing import Any


def time_calls(
    call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], count: int
) -> list[int]:
    """Call `count` times and return how long each call took, in ns.

    The clock is monotonic and the host's. What it sees beyond the call itself (`benchmarks/loop.py`
    measures it) is well below 1 µs.
    """
    samples: list[int] = []
    add, clock = samples.append, perf_counter_ns
    for _ in range(count):
        start = clock()
        call(*args, **kwargs)
        add(clock() - start)
    return samples


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Collect garbage once, then keep the collector from running into a timed call."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
