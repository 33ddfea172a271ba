from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eipack.statistics.early_stopping import discarded, estimate, fewest

CHILD = Path(__file__).with_name("loadgen_child.py")


def test_the_fewest_calls_are_those_of_mlperf() -> None:
    assert [fewest(percent) for percent in (90, 95, 99)] == [64, 130, 662]


def test_with_the_fewest_calls_the_estimate_is_the_highest_latency() -> None:
    samples = random.sample(range(1000), 64)
    assert estimate(samples, 90) == max(samples)
    assert estimate(samples[1:], 90) is None


def test_the_estimate_of_many_calls_approaches_the_percentile_from_above() -> None:
    for calls in (1000, 10_000, 1_000_000):
        above = discarded(calls, 90)
        assert 0.75 * calls / 10 < above < calls / 10
    assert discarded(1_000_000, 90) > 0.99 * 100_000


def test_the_estimate_is_above_the_percentile_in_99_percent_of_runs() -> None:
    generator = random.Random(0)
    below = sum(
        (estimate([generator.randrange(10**9) for _ in range(200)], 90) or 0) < 0.9 * 10**9
        for _ in range(1000)
    )
    assert 0 < below <= 18


def test_less_confidence_needs_fewer_calls_and_estimates_lower() -> None:
    assert fewest(90, 0.9) < fewest(90)
    assert discarded(1000, 90, 0.9) > discarded(1000, 90)


def test_no_calls_have_no_estimate() -> None:
    assert estimate([], 90) is None


def judged_by_loadgen(folder: Path, runs: int, seed: int) -> Iterator[dict[str, Any]]:
    command = [sys.executable, str(CHILD), str(folder), str(runs), str(seed)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    lines = done.stdout.splitlines()
    assert len(lines) == runs
    yield from map(json.loads, lines)


def assert_agrees(found: dict[str, Any]) -> None:
    samples = found["samples_ns"]
    assert (len(samples), max(samples)) == (found["calls"], found["max_ns"])
    stated = {float(percent): value for percent, value in found["estimates"].items()}
    assert stated == {percent: estimate(samples, percent) for percent in stated}
    if found["needed"] is None:
        assert found["percent"] in stated
    else:
        assert found["needed"] == fewest(found["percent"]) > found["calls"]
        assert estimate(samples, found["percent"]) is None


def test_loadgen_agrees_on_ten_sets_of_latencies(tmp_path: Path) -> None:
    pytest.importorskip("mlperf_loadgen")
    for found in judged_by_loadgen(tmp_path, 10, seed=0):
        assert_agrees(found)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 21))
def test_loadgen_agrees_on_a_thousand_sets_of_latencies(tmp_path: Path, seed: int) -> None:
    pytest.importorskip("mlperf_loadgen")
    for found in judged_by_loadgen(tmp_path, 50, seed):
        assert_agrees(found)
