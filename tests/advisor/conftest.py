"""Reports as a benchmark would make them, in numbers that are easy to reckon with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import evolve

from eipack.advisor import Catalogue, Price
from eipack.measuring.environment import Environment
from eipack.measuring.report import Noise, Report, Row, Settings
from eipack.measuring.scenario import Scenario

PUBLISHED = Path(__file__).parents[2] / "docs/measured/elastic-inference-2020.csv"

HERE = Environment(
    date="2026-11-01T10:00:00+00:00",
    machine="a processor",
    cores=2,
    memory_bytes=4_000_000_000,
    instance="c5.large",
    system="Linux x86_64",
    python="3.11.9",
    torch="2.13.0",
    threads=2,
    eipack="0.1.0",
    libraries={},
    package="small",
    package_version=None,
    package_digest="blake3:" + "0" * 64,
    weights_bytes=1_000_000,
    input_bytes=1000,
)
# 3.60 $/h are 0.1 cent a second: 100,000 calls of 1 ms cost $0.10.
PRICES = Catalogue(
    "test",
    historical=False,
    prices=(
        Price("c5.large", None, 3.6, memory_gib=4, retrieved="2026-11-01"),
        Price("c5.xlarge", None, 7.2, memory_gib=8, retrieved="2026-11-01"),
        Price("gpu.large", "T4", 36.0, 4, 16, 16, retrieved="2026-11-01"),
        Price("eia2.medium", None, 1.8, retrieved="2026-11-01"),
    ),
)


def row(mean_ms: float, target: str = "cpu", *, calls: int = 1000, **more: Any) -> Row:
    """Make a row whose calls all take within 1 % of the mean."""
    near = [round(mean_ms * 1e6 * (1 + (number % 21 - 10) / 1000)) for number in range(calls)]
    facts: dict[str, Any] = {
        "program": "torchscript",
        "ran_on": target,
        "device": target.partition(":")[0].partition("+")[0],
        "calls": calls,
        "mean_ms": mean_ms,
        "p50_ms": mean_ms,
        "p90_ms": mean_ms * 1.008,
        "p95_ms": mean_ms * 1.009,
        "p99_ms": mean_ms * 1.01,
        "intervals": {"mean_ms": (mean_ms * 0.99, mean_ms * 1.01)},
        "stable": True,
        "calls_per_s": 1000 / mean_ms,
        "samples_ns": tuple(near),
    }
    return Row(target, **{**facts, **more})


def loaded(mean_ms: float, concurrency: int, **more: Any) -> Row:
    """Make a row of so many callers at once."""
    scenario = Scenario("closed-loop", concurrency=concurrency)
    return row(mean_ms, scenario=scenario, calls_per_s=1000 * concurrency / mean_ms, **more)


def report(
    *rows: Row, instance: str | None = "c5.large", floor: float | None = None, **facts: Any
) -> Report:
    noise = None if floor is None else Noise("cpu", None, 1.0, 1 - floor, 1 + floor, floor)
    environment = evolve(HERE, instance=instance, **facts)
    return Report(2, "nearest-rank", environment, Settings(calls=1000), rows, noise)
