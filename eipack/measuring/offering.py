"""Offer calls to a session as a scenario says, and keep every latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from math import inf
from threading import Event
from time import perf_counter_ns
from typing import Any

from attrs import evolve, frozen

from eipack.measuring.loop import time_calls
from eipack.measuring.offering_closed import ClosedLoop, Timed, repeat
from eipack.measuring.offering_open import OpenLoop, poisson
from eipack.measuring.scenario import Scenario

Arguments = tuple[Sequence[Any], Mapping[str, Any]]

_NS_PER_S = 1_000_000_000


@frozen
class Offered:
    """What a scenario saw: latencies and when each began, both in the order of their beginning.

    `began_ns` counts from the run's start. In an open loop a call begins when it arrives, so that
    its latency contains its waiting. `elapsed_ns` is from the start to the last answer; in an open
    loop over a time to the end of that time at least.
    `discarded` calls came before the start and are in no figure. The last `unanswered` of an
    overloaded open loop had not begun to run when the run ended: their latencies are how long
    they had waited by then, so percentiles that they reach are the least that they can be.
    `start_ns` is when the run started, by the clock of `perf_counter_ns`.
    """

    samples_ns: tuple[int, ...]
    began_ns: tuple[int, ...]
    elapsed_ns: int
    discarded: int = 0
    unanswered: int = 0
    start_ns: int = 0

    @property
    def made(self) -> int:
        """How many calls were run in all, those that are in no figure included."""
        return len(self.samples_ns) - self.unanswered + self.discarded

    @property
    def calls_per_s(self) -> float:
        """How many calls were answered a second."""
        answered = len(self.samples_ns) - self.unanswered
        return answered * _NS_PER_S / self.elapsed_ns if self.elapsed_ns else 0.0


def offer(
    call: Callable[..., Any],
    arguments: Arguments,
    scenario: Scenario,
    *,
    calls: int | None = None,
    duration_s: float | None = None,
    seed: int = 0,
) -> Offered:
    """Make `calls` calls, or as many as begin within `duration_s`; with both, what is over first.

    One is made at least: in an open loop the first arrival, however late it is.

    `call` has to be safe between threads, `arguments` are those of every call. A closed loop has
    each thread make one call first that does not count, since PyTorch sets up something for each.
    An open loop draws its arrivals from `seed` beforehand. It ends at most 5 s after the last
    arrival, once the calls that run by then are answered. Threads end with the run, however it
    ends; the first error ends it.

    Raises:
        ValueError: Neither `calls` nor `duration_s` is given, or one is not above 0, or the
            scenario has no callers or no rate.
        Exception: What the call raised first.
    """
    _check(scenario, calls, duration_s)
    if scenario.name == "open-loop":
        return _open_loop(call, arguments, scenario.rate_per_s or 0.0, calls, duration_s, seed)
    limit_ns = None if duration_s is None else int(duration_s * _NS_PER_S)
    if scenario.concurrency > 1:
        loop = ClosedLoop(call, arguments, scenario.concurrency, calls, limit_ns)
        return _offered(*loop.run(), scenario.concurrency)
    return _one_caller(call, arguments, calls, limit_ns)


def _check(scenario: Scenario, calls: int | None, duration_s: float | None) -> None:
    if calls is None and duration_s is None:
        raise ValueError("give calls, duration_s, or both")
    if calls is not None and calls < 1:
        raise ValueError(f"calls is {calls}; give 1 or more")
    if duration_s is not None and not 0 < duration_s < inf:
        raise ValueError(f"duration_s is {duration_s:g}; give seconds above 0")
    if scenario.concurrency < 1:
        raise ValueError(f"concurrency is {scenario.concurrency}; give 1 or more")
    rate = scenario.rate_per_s
    if scenario.name == "open-loop" and not (rate is not None and 0 < rate < inf):
        raise ValueError(f"rate_per_s is {rate}; an open loop needs calls a second above 0")


def _offered(timed: Sequence[Timed], start_ns: int, discarded: int) -> Offered:
    """Order calls by when they began, and count from the run's start."""
    ordered = sorted(timed)
    return Offered(
        tuple([ended - began for began, ended in ordered]),
        tuple([began - start_ns for began, _ in ordered]),
        max(ended for _, ended in ordered) - start_ns,
        discarded,
        start_ns=start_ns,
    )


def _open_loop(
    call: Callable[..., Any],
    arguments: Arguments,
    rate_per_s: float,
    calls: int | None,
    duration_s: float | None,
    seed: int,
) -> Offered:
    due_ns = poisson(rate_per_s, calls, duration_s, seed)
    found = OpenLoop(call, arguments, due_ns).run(rate_per_s)
    offered = _offered(found.timed, found.start_ns, found.discarded)
    elapsed_ns = offered.elapsed_ns
    if calls is None and duration_s is not None:  # the time after the last arrival belongs to it
        elapsed_ns = max(elapsed_ns, int(duration_s * _NS_PER_S))
    return evolve(offered, elapsed_ns=elapsed_ns, unanswered=found.unanswered)


def _one_caller(
    call: Callable[..., Any], arguments: Arguments, calls: int | None, limit_ns: int | None
) -> Offered:
    """Call in this thread; without a limit of time, by the loop that costs the least."""
    if limit_ns is None:
        start_ns = perf_counter_ns()
        samples = time_calls(call, *arguments, calls or 0)
        elapsed = perf_counter_ns() - start_ns
        return Offered(tuple(samples), _one_after_another(samples), elapsed, start_ns=start_ns)
    start_ns = perf_counter_ns()
    timed = repeat(call, arguments, count(), calls, start_ns + limit_ns, Event())
    return _offered(timed, start_ns, 0)


def _one_after_another(samples_ns: Sequence[int]) -> tuple[int, ...]:
    """Return when each call began, if each began as the one before it was answered."""
    began, at = [], 0
    for sample in samples_ns:
        began.append(at)
        at += sample
    return tuple(began)
