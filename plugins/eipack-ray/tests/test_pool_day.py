"""The simulated day runs through, and the registry's rules do what they are for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SMALL = ("--hosts", "20", "--gpus", "16", "--peak", "60", "--seed", "3")


def test_a_small_day_keeps_more_nodes_free_and_second_accelerators_apart() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.pool_day", "--json", *SMALL],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    ours, first, anywhere = json.loads(done.stdout)
    assert ours["attached"] == first["attached"] == anywhere["attached"] > 300
    assert ours["idle_nodes_mean"] > anywhere["idle_nodes_mean"]
    assert ours["together"] < min(first["together"], anywhere["together"])
    assert 0 < ours["leased_mean"] <= ours["leased_peak"] <= 1
