"""`eipack tune`: the table, the JSON and the exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .conftest import Eipack, assert_one_line

QUICKLY = ("--threads", 1, "--engine", "cpu", "--budget", "20s")


def test_the_table_has_the_winner_and_the_command_that_uses_it(
    eipack: Eipack, package_file: Path, fresh_home: Path, shared_home: Path, monkeypatch
) -> None:
    monkeypatch.setenv("EIPACK_CONFIG_DIR", str(shared_home / "config"))
    result = eipack("tune", package_file, *QUICKLY)
    assert result.exit_code == 0, result.stderr
    heading, first, *_, winner, use = result.stdout.splitlines()
    names = ["engine", "program", "precision", "threads", "p50_ms", "calls", "speed-up", "loss"]
    assert heading.split() == names
    assert first.split()[:3] == ["cpu", "(plain)", "torchscript-trace"]
    assert winner.startswith("winner: cpu by torchscript-trace in float32, ")
    assert use == f"use it: eipack run {package_file} --target cpu+auto"
    assert result.stderr == ""
    used = eipack("run", package_file, "--target", "cpu+auto")
    assert (used.exit_code, used.stderr) == (0, "")
    assert "torchscript-trace on cpu" in used.stdout


def test_programs_read_json(eipack: Eipack, package_file: Path) -> None:
    result = eipack("tune", package_file, *QUICKLY, "--objective", "throughput", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["objective"] == "throughput"
    assert found["winner"]["target"] == "cpu"
    assert {row["batch"] for row in found["rows"]} <= {1, 2, 4}


def test_a_record_that_cannot_be_kept_is_told_and_the_exit_code_is_1(
    eipack: Eipack, package_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EIPACK_CACHE_DIR", str(tmp_path / "file"))
    result = eipack("tune", package_file, *QUICKLY)
    assert result.exit_code == 1
    assert "winner: cpu" in result.stdout
    assert "eipack: error: the tuning record is not kept: cannot write in" in result.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--budget", "soon"], "write for example 60s or 2m"),
        (["--budget", "0s"], "write for example 60s or 2m"),
        (["--engine", "warp"], "no engine 'warp' is installed"),
        (["--precision", "float8"], "'float8' is not one of"),
        (["--target", "cpu+inductor"], "name cpu and not cpu+inductor"),
        (["--threads", "0"], "0 is not in the range"),
    ],
)
def test_wrong_use_is_told(eipack: Eipack, package_file: Path, words: list[str], told: str) -> None:
    assert_one_line(eipack("tune", package_file, *words), 2, told)


def test_a_package_without_a_batch_has_no_throughput_to_tune(
    eipack: Eipack, tmp_path: Path
) -> None:
    import torch

    from eipack import export

    path = tmp_path / "fixed.eipack"
    export(torch.nn.Linear(4, 2).eval(), (torch.randn(2, 4),), method="trace").save(path)
    result = eipack("tune", path, "--objective", "throughput")
    assert_one_line(result, 2, "there are no batches to tune for throughput", "tune for latency")


def test_an_untrusted_package_is_told(
    eipack: Eipack, package_file: Path, tmp_path: Path, fresh_home: Path
) -> None:
    stranger = shutil.copy(package_file, tmp_path)
    assert_one_line(eipack("tune", stranger), 1, "by a key that is not trusted here")


def test_a_device_that_is_not_here_is_told(eipack: Eipack, package_file: Path) -> None:
    assert_one_line(eipack("tune", package_file, "--target", "toy:7"), 1, "no such device")
