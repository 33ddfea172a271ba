"""How often the statistics are right, on latencies whose truth is known.

Unlike the other groups this one measures no time, so a busy machine does not spoil it. The tests
run the same simulations with fewer runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import evolve

from benchmarks.figure import Figure, run
from eipack.measuring.changes import Changes, compare
from eipack.measuring.environment import Environment
from eipack.measuring.report import Noise, Report, Row
from eipack.statistics.differences import ratio_of_medians
from eipack.statistics.figures import PERCENTILES
from eipack.statistics.intervals import mean_interval, percentile_interval
from eipack.statistics.steadiness import drifts

if TYPE_CHECKING:
    Floats = np.ndarray[Any, np.dtype[np.float64]]

REPEAT = 2000
_COMMAND = "python -m benchmarks.statistics"
_NS = 5e6
_TURN = 50
Draw = Callable[[np.random.Generator, int], "Floats"]


def autocorrelated(generator: np.random.Generator, count: int, correlation: float) -> Floats:
    """Return standard normal numbers of which neighbours are correlated, AR(1)."""
    steps = generator.normal(0, 1, count)
    steps[1:] *= (1 - correlation**2) ** 0.5
    for index in range(1, count):
        steps[index] += correlation * steps[index - 1]
    return steps


def _mixture(generator: np.random.Generator, count: int) -> Floats:
    return generator.lognormal(0, 0.1, count) * np.where(generator.random(count) < 0.01, 10, 1)


def _in_turns(generator: np.random.Generator, count: int, level: float = 0.01) -> Floats:
    """Return skewed latencies with outliers, whose level changes from turn to turn."""
    levels = np.repeat(generator.lognormal(0, level, -(-count // _TURN)), _TURN)[:count]
    outliers = np.where(generator.random(count) < 0.01, generator.uniform(1.5, 4, count), 1)
    skewed = 0.9 + 0.1 * generator.gamma(4, 0.25, count)
    return np.asarray(levels * outliers * skewed)


INDEPENDENT: Mapping[str, Draw] = {
    "normal, 5 %": lambda generator, count: generator.normal(1, 0.05, count),
    "log-normal, sigma 0.3": lambda generator, count: generator.lognormal(0, 0.3, count),
    "log-normal, sigma 1": lambda generator, count: generator.lognormal(0, 1, count),
    "gamma, shape 2": lambda generator, count: generator.gamma(2, 1, count),
    "1 % of outliers 10 times as long": _mixture,
}
"""Latencies of which each is made for itself."""

CORRELATED: Mapping[str, Draw] = {
    "AR(1) 0.3": lambda generator, count: np.exp(0.1 * autocorrelated(generator, count, 0.3)),
    "AR(1) 0.5": lambda generator, count: np.exp(0.1 * autocorrelated(generator, count, 0.5)),
    "turns that differ by 1 %": _in_turns,
}
"""Latencies that resemble their neighbours; their intervals are told the turns."""


@cache
def _truth(name: str) -> dict[str, float]:
    draw = {**INDEPENDENT, **CORRELATED}[name]
    many = draw(np.random.default_rng(0), 1_000_000)
    exact = {figure: float(np.quantile(many, one / 100)) for figure, one in PERCENTILES.items()}
    return {**exact, "mean_ms": float(many.mean())}


def covered(name: str, figure: str, count: int, runs: int) -> float:
    """Return in which share of runs the 95 % interval of a figure holds the true one."""
    generator = _generator(name, count)
    true, hits = _truth(name)[figure], 0
    draw = {**INDEPENDENT, **CORRELATED}[name]
    turns = None if name in INDEPENDENT else turns_of(count)
    for _ in range(runs):
        samples = draw(generator, count)
        if figure == "mean_ms":
            low, high = mean_interval(samples, turns=turns)
        else:
            low, high = percentile_interval(samples, PERCENTILES[figure], turns=turns)
        hits += low <= true and (high is None or true <= high)
    return hits / runs


def _generator(name: str, count: int) -> np.random.Generator:
    return np.random.default_rng([1, count, *name.encode()])


def turns_of(count: int) -> list[int]:
    """Return the lengths of the turns in which so many calls are made."""
    return [_TURN] * (count // _TURN)


def alarms(name: str, count: int, runs: int, slope: Floats | float = 1.0) -> float:
    """Return which share of runs is said to drift; `slope` is what each latency is scaled by."""
    generator = _generator(name, count)
    draw = {**INDEPENDENT, **CORRELATED}[name]
    turns = None if name in INDEPENDENT else turns_of(count)
    found = (drifts(in_ns(draw(generator, count) * slope), turns) for _ in range(runs))
    return sum(found) / runs


def in_ns(latencies: Floats) -> list[int]:
    """Return latencies around 1 as latencies around 5 ms."""
    return [round(latency * _NS) for latency in latencies.tolist()]


_ENVIRONMENT = Environment(
    date="2026-11-01T10:00:00+00:00",
    machine="a processor",
    cores=2,
    memory_bytes=8_000_000_000,
    instance=None,
    system="Linux x86_64",
    python="3.11.9",
    torch="2.13.0",
    threads=2,
    eipack="0.1.0",
    libraries={},
    package="small",
    package_version=None,
    package_digest="blake3:" + "0" * 64,
    weights_bytes=1000,
    input_bytes=10,
)


def simulated_report(
    generator: np.random.Generator,
    *,
    calls: int = 1000,
    rows: int = 1,
    slower: float = 1.0,
    level: float = 0.01,
    process: float = 0.0,
    noise: bool = True,
) -> Report:
    """Return a report as `eipack bench` makes one.

    `level` is by how much turns differ, `process` by how much processes that run the same do, and
    `slower` is what the latencies of the first row are multiplied by.
    """
    from eipack.measuring import Settings

    def samples(factor: float) -> tuple[int, ...]:
        own = float(generator.lognormal(0, process))
        return tuple(in_ns(_in_turns(generator, calls, level) * own * factor))

    turns = tuple(turns_of(calls))
    base = Row("cpu", kind="torchscript", method="trace", calls=calls, turns=turns, stable=True)
    made = tuple(
        evolve(base, target=f"cpu+engine{index}", samples_ns=samples(slower if not index else 1.0))
        for index in range(rows)
    )
    report = Report(2, "nearest-rank", _ENVIRONMENT, Settings(calls=calls), made)
    return evolve(report, noise=_noise(made[0], samples(slower))) if noise else report


def _noise(row: Row, twin: tuple[int, ...]) -> Noise:
    found = ratio_of_medians(row.samples_ns, twin, row.turns, row.turns)
    floor = max(abs(found.low - 1), abs(found.high - 1))
    return Noise(row.target, row.program, found.value, found.low, found.high, floor)


def compared(pairs: int, *, slower: float = 1.0, seed: int = 0, **settings: Any) -> list[Changes]:
    """Return what `compare` says of pairs of reports; the second is slower by a factor."""
    generator = np.random.default_rng(seed)
    return [
        compare(
            simulated_report(generator, **settings),
            simulated_report(generator, slower=slower, **settings),
        )
        for _ in range(pairs)
    ]


def says_changed(changes: Changes) -> bool:
    """Tell whether any figure of any row is said to be faster or slower."""
    verdicts = {figure.verdict for row in changes.rows for figure in row.figures}
    return bool(verdicts & {"faster", "slower"})


def measure(repeat: int = REPEAT) -> list[Figure]:
    """Simulate `repeat` runs of each kind; half as many for drifts, a twentieth of pairs."""
    return [*_coverage(repeat), *_drifts(repeat // 2), *_pairs(max(repeat // 20, 1))]


def _coverage(runs: int) -> Iterator[Figure]:
    for count in (100, 1000):
        for name in (*INDEPENDENT, *(CORRELATED if count > 100 else ())):
            figures = ["mean_ms", "p50_ms", "p90_ms", *(["p99_ms"] if count > 100 else ())]
            shares = {figure: covered(name, figure, count, runs) for figure in figures}
            for figure, share in shares.items():
                what = f"95 % interval of {figure}, {count} calls: {name}"
                yield _figure(what, 2, abs(share - 0.95) * 100, f"covers {share:.1%} of {runs}")


def _drifts(runs: int) -> Iterator[Figure]:
    for name in (*INDEPENDENT, *CORRELATED):
        share = alarms(name, 1000, runs)
        yield _figure(f"steady latencies called unstable: {name}", 5, share * 100, f"of {runs}")
    steps = np.where(np.arange(1000) < 500, 1.0, 1.05)
    for what, slope in (("step", steps), ("drift", np.linspace(1, 1.05, 1000))):
        for name in ("normal, 5 %", "turns that differ by 1 %"):
            missed = 1 - alarms(name, 1000, runs, slope)
            yield _figure(f"a {what} of 5 % not seen: {name}", 10, missed * 100, f"of {runs}")


def _pairs(pairs: int) -> Iterator[Figure]:
    cases: Sequence[tuple[str, dict[str, Any]]] = (
        ("turns differ by 0.5 %", {"level": 0.005}),
        ("turns differ by 1 %", {"level": 0.01}),
        ("turns by 1 %, processes by 0.5 %", {"process": 0.005}),
        ("turns differ by 1 %, 8 rows", {"rows": 8}),
        ("turns differ by 1 %, no A/A run", {"noise": False}),
    )
    for name, settings in cases:
        changed = sum(map(says_changed, compared(pairs, **settings))) / pairs
        yield _figure(f"A/A pairs said to differ: {name}", 5, changed * 100, f"of {pairs}")
        slow = compared(pairs, slower=1.05, seed=1, **settings)
        missed = sum(not one.slower() for one in slow) / pairs
        yield _figure(f"a slowdown of 5 % not found: {name}", 10, missed * 100, f"of {pairs}")


def _figure(what: str, asked: float, measured: float, detail: str) -> Figure:
    return Figure(what, asked, measured, "points", detail, _COMMAND, (measured,))


if __name__ == "__main__":
    run(measure, REPEAT)
