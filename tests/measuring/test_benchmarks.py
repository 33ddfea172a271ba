"""The scripts in `benchmarks/`: one is run, so that they do not rot; the figures are not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)


def test_a_script_measures_and_gives_its_verdict_as_json() -> None:
    done = run("benchmarks.loop", "--repeat", "1", "--json")
    (figure,) = json.loads(done.stdout)
    assert figure["unit"] == "µs"
    assert figure["verdict"] == ("met" if figure["measured"] <= figure["asked"] else "missed")
    assert len(figure["samples"]) == 1


def test_named_groups_make_a_table_of_their_own() -> None:
    done = run("benchmarks", "loop", "--repeat", "1")
    heading, row = done.stdout.splitlines()
    assert heading.split() == ["what", "asked", "measured", "verdict", "detail"]
    assert "at most 2 µs" in row


def test_an_unknown_group_is_wrong_use() -> None:
    done = run("benchmarks", "speed")
    assert done.returncode == 2
    assert "no such group: speed" in done.stderr
