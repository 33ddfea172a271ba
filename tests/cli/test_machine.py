"""`devices`, `backends` and `demo`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from .conftest import Eipack, assert_one_line

Script = Callable[..., CompletedProcess[str]]


def test_the_processor_is_a_device(eipack: Eipack) -> None:
    found = json.loads(eipack("devices", "--json").stdout)
    processor = next(device for device in found if device["target"] == "cpu")
    assert processor["healthy"] is True
    assert processor["memory_bytes"] > 0
    assert "cpu" in eipack("devices").stdout


def test_backends_say_where_they_come_from(eipack: Eipack) -> None:
    found = {one["name"]: one for one in json.loads(eipack("backends", "--json").stdout)}
    assert found["cpu"]["distributions"] == ["eipack-cpu"]
    assert found["cpu"]["status"] == "ok"
    assert "torchscript" in found["cpu"]["kinds"]


def test_a_broken_backend_says_why_and_harms_no_other(script: Script, tmp_path: Path) -> None:
    folder = tmp_path / "eipack_npu-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: eipack-npu\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[eipack.backends]\nnpu = no_such_module:Backend\n")
    environment = {"PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    listed = script("backends", **environment)
    assert listed.returncode == 0
    assert "no_such_module" in listed.stdout
    assert "cpu" in listed.stdout
    seen = script("devices", **environment)
    assert seen.returncode == 0
    assert "no_such_module" in seen.stderr


@pytest.mark.slow
def test_the_demo_walks_through_the_whole_journey(
    eipack: Eipack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eipack.cli.commands import demo

    small = " --config n_layer=1 --config n_embd=24 --config vocab_size=50"
    monkeypatch.setattr(demo, "_GPT", demo._GPT + small)
    monkeypatch.chdir(tmp_path)
    result = eipack("demo", "--calls", 5)
    assert result.exit_code == 0, result.stderr
    assert {path.name for path in Path("demo").iterdir()} == {
        "cost.png",
        "latency.png",
        "openai-gpt.eipack",
        "openai-gpt.json",
        "resnet18.eipack",
        "resnet18.json",
    }
    local = ("export", "inspect", "run", "bench", "advise")
    for command in (*local, "eia serve", "eia attach", "eia detach"):
        assert f"$ eipack {command} " in result.stdout
    assert re.search(r"100,000 calls", result.stdout)
    assert "random weights" in result.stdout
    assert len(re.findall(r"^eia:[0-9]+ .* MB", result.stdout, re.MULTILINE)) == 3


@pytest.mark.long
def test_the_demo_of_the_console_script_ends_well(script: Script, tmp_path: Path) -> None:
    done = script("demo", "--folder", tmp_path / "demo", COLUMNS=os.environ.get("COLUMNS", "100"))
    assert done.returncode == 0, done.stderr
    assert "Commands to try next" in done.stdout


def test_a_folder_that_cannot_be_made_is_one_line(eipack: Eipack, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_one_line(eipack("demo", "--folder", tmp_path / "file" / "demo"), 1, "cannot make")
