"""`eipack.benchmark`: every target and program in one run, taking turns."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any

from eipack.measuring.environment import describe
from eipack.measuring.lane import Asked, Lane
from eipack.measuring.loop import without_garbage_collection
from eipack.measuring.report import Report
from eipack.target import Target

if TYPE_CHECKING:
    from eipack.backend import Precision
    from eipack.package import Package
    from eipack.trust import Trust

Progress = Callable[[int, int], None]
Arguments = tuple[Sequence[Any], Mapping[str, Any]]

_TURN_NS = 250_000_000
"""How long a turn lasts: far shorter than a clock or neighbour drifts, far longer than a switch."""
_SHORTEST_TURN = 5
_TURNS = 10
"""In how many turns the calls are made at least, as far as the shortest turn allows."""


def benchmark(
    package: Package | str | os.PathLike[str],
    targets: str | Target | Sequence[str | Target] = ("cpu",),
    *,
    programs: str | Sequence[str] | None = None,
    calls: int = 1000,
    inputs: Any | None = None,
    trust: Trust = None,
    progress: Progress | None = None,
    precision: Precision = "float32",
    threads: int | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Report:
    """Measure a package on each target, host to host: load, first call, then `calls` more.

    `programs` names programs by id, kind or method, and each is measured on each target; by
    default each target runs the one it prefers. `inputs` is one tensor, a tuple of arguments
    or a dict of keywords, the same for all; by default the package's samples. `precision`,
    `threads` and `options` are those of `eipack.load`, for every target. All are loaded
    first, and then take turns of about 0.25 s, so that what slows the machine slows all of
    them; where there are several, the first call of a turn is discarded, since it finds the
    caches as another left them. The garbage collector is off meanwhile. `progress` is told
    how many of all the timed calls are made, and how many there are.

    Before it is timed, each must give the package's recorded outputs on its samples, within the
    published tolerance. One that does not, or cannot run here, is a failed row.

    Raises:
        EipackError: Every row failed (the first one's reason), or the package itself is at
            fault: damaged, not trusted, or changed during the run.
        SignatureMismatch: `inputs` do not fit the package.
        ValueError: `calls` is below 1, or there is no target.
    """
    from eipack.package import Package

    lanes = _lanes(targets, programs, Asked(precision, threads, options))
    if calls < 1 or not lanes:
        raise ValueError("a benchmark needs at least one target and one call")
    with ExitStack() as stack:
        if isinstance(package, Package):
            opened = package
        else:
            opened = stack.enter_context(Package.open(package))
        environment = describe(opened)
        arguments = _arguments(opened, inputs)
        stack.enter_context(without_garbage_collection())
        for lane in lanes:
            stack.callback(lane.leave)
            lane.enter(opened, arguments, trust)
        _race(lanes, arguments, calls, progress or (lambda *_: None))
        failures = [lane.failure for lane in lanes if lane.failure is not None]
        if len(failures) == len(lanes):
            raise failures[0]
        return Report(1, "nearest-rank", environment, tuple(lane.row() for lane in lanes))


def _lanes(
    targets: str | Target | Sequence[str | Target],
    programs: str | Sequence[str] | None,
    asked: Asked,
) -> list[Lane]:
    several = [targets] if isinstance(targets, str | Target) else targets
    named = [programs] if isinstance(programs, str) else programs
    parsed = [Target.parse(target) for target in several]
    return [Lane(target, program, asked) for target in parsed for program in (named or (None,))]


def _arguments(package: Package, inputs: Any | None) -> Arguments:
    if inputs is None:
        return package.signature.nest(package.samples()[0])
    if isinstance(inputs, Mapping):
        return (), inputs
    return inputs if isinstance(inputs, tuple | list) else (inputs,), {}


def _race(lanes: Sequence[Lane], arguments: Arguments, calls: int, progress: Progress) -> None:
    """Let the lanes that are able take turns; who begins a round changes from one to the next."""
    running = [lane for lane in lanes if lane.failure is None]
    for lane in running:
        lane.warm_up(arguments, calls)
    turn = turn_length([lane.typical_ns for lane in running if lane.failure is None], calls)
    total, start = calls * len(running), 0
    while running and len(running[0].samples) < calls:
        count = min(turn, calls - len(running[0].samples))
        for lane in (*running[start:], *running[:start]):
            lane.take_turn(arguments, count, lead_in=len(running) > 1)
            progress(sum(len(one.samples) for one in running), total)
        running = [lane for lane in running if lane.failure is None]
        start = (start + 1) % max(len(running), 1)


def turn_length(typical_ns: Sequence[float], calls: int) -> int:
    """Return how many calls a turn has, for the typical duration of each lane's call."""
    if not typical_ns:
        return 1
    fitting = int(_TURN_NS / max(median(typical_ns), 1))
    return max(_SHORTEST_TURN, min(fitting, calls // _TURNS))
