"""Warming up: calls that do not count, made until latencies are as they will be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final

from eipack.measuring.report import WarmUp
from eipack.statistics.steadiness import settled_after

FEWEST: Final = 10
_ENOUGH_CALLS: Final = 200
_ENOUGH_S: Final = 3.0
_MOST_S: Final = 10.0
_LOOKED_AT: Final = 2000
"""How many of the last calls decide; a quick model makes a hundred thousand in a few seconds."""


def warm_up(make: Callable[[int], Sequence[int]]) -> tuple[WarmUp, list[int]]:
    """Have calls made until they are settled, and return all their latencies in ns.

    `make` makes so many calls and returns how long each took. Ten are made at least, one by one;
    then each block doubles their number. What has not settled after 200 calls and 3 s, or after
    10 s however many there were, goes on unsettled.
    """
    began = perf_counter()
    samples: list[int] = []
    while len(samples) < FEWEST and perf_counter() - began < _MOST_S:
        samples += make(1)
    settled = _is_settled(samples)
    while not settled and _goes_on(len(samples), perf_counter() - began):
        samples += make(_block(len(samples), perf_counter() - began))
        settled = _is_settled(samples)
    ms = (perf_counter() - began) * 1e3
    return WarmUp(len(samples), ms, settled), samples


def _is_settled(samples: Sequence[int]) -> bool:
    return settled_after(samples[-_LOOKED_AT:]) is not None


def _goes_on(calls: int, seconds: float) -> bool:
    return seconds < _MOST_S and (calls < _ENOUGH_CALLS or seconds < _ENOUGH_S)


def _block(calls: int, seconds: float) -> int:
    """Return how many calls are next: as many again, as far as the time allows."""
    fitting = int((_MOST_S - seconds) * calls / max(seconds, 1e-9))
    return max(1, min(calls, fitting))
