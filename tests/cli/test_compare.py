"""`eipack compare`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from eipack.measuring.environment import Environment
from eipack.measuring.report import Noise, Report, Resources, Row, Settings

from .conftest import Eipack, assert_one_line

ENVIRONMENT = Environment(
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
NOISE = Noise("cpu", "torchscript-trace", 1.0, 0.99, 1.01, 0.01)
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a report of one row; `scale` is its latency in ms, `rows` are further ones."""

    def write(name: str, scale: float = 1.0, *rows: Row, calls: int = 1000, **where: Any) -> Path:
        generator = np.random.default_rng(len(name))
        samples = (scale * 1e6 * generator.lognormal(0, 0.05, calls)).astype(int).tolist()
        row = Row(
            "cpu",
            "torchscript-trace",
            kind="torchscript",
            method="trace",
            cold_start_ms=1000 * scale,
            resources=Resources(host_peak_bytes=300_000_000),
            calls=calls,
            samples_ns=tuple(samples),
        )
        environment = evolve(ENVIRONMENT, **where)
        report = Report(2, "nearest-rank", environment, Settings(), (row, *rows), NOISE)
        path = tmp_path / name
        path.write_bytes(report.to_json())
        return path

    return write


def test_nothing_changed_is_exit_code_0(eipack: Eipack, write: Write) -> None:
    result = eipack("compare", write("a.json"), write("bb.json"))
    assert result.exit_code == 0, result.output
    assert "3 figures: 3 same (noise floor 3.0%)" in result.stdout
    assert result.stderr == ""


def test_a_slower_figure_is_shown_with_its_interval_and_is_exit_code_1(
    eipack: Eipack, write: Write
) -> None:
    result = eipack("compare", write("a.json"), write("bb.json", 1.1), "--figure", "p50_ms")
    assert result.exit_code == 1
    heading, line, *_ = result.stdout.splitlines()
    assert heading.split() == ["row", "figure", "before", "after", "change", "interval", "verdict"]
    assert re.match(r"cpu, torchscript-trace +p50_ms +1\.0\d\d +1\.\d{3} +\+\d+\.\d%", line)
    assert re.search(r"\+\d+\.\d% to \+\d+\.\d%  slower$", line)


def test_a_faster_figure_is_exit_code_0(eipack: Eipack, write: Write) -> None:
    result = eipack("compare", write("a.json", 1.1), write("bb.json"))
    assert result.exit_code == 0
    assert "3 faster" in result.stdout


def test_what_has_no_verdict_is_shown_too(eipack: Eipack, write: Write) -> None:
    shown = eipack("compare", write("a.json"), write("bb.json", 1.5)).stdout
    assert re.search(r"cold_start_ms +1,000 +1,500 +\+50\.0%$", shown, re.MULTILINE)
    assert re.search(r"host_peak_bytes +300\.0 MB +300\.0 MB +\+0\.0%$", shown, re.MULTILINE)


@pytest.mark.parametrize(("allowed", "code"), [("5%", 1), ("0.05", 1), ("10%", 0), ("20%", 0)])
def test_a_regression_that_is_allowed_is_exit_code_0(
    eipack: Eipack, write: Write, allowed: str, code: int
) -> None:
    words = ("compare", write("a.json"), write("b.json", 1.1), "--max-regression", allowed)
    result = eipack(*words)
    assert result.exit_code == code
    assert "3 slower" in result.stdout
    assert f"slower by more than {'5%' if code else allowed}, with confidence" in result.stdout


@pytest.mark.parametrize("share", ["5", "1", "-5%", "five", "5%%", "nan"])
def test_a_share_that_is_none_is_wrong_use(eipack: Eipack, write: Write, share: str) -> None:
    result = eipack("compare", write("a.json"), write("b.json"), f"--max-regression={share}")
    assert_one_line(result, 2, "write for example 5% or 0.05")


def test_json_has_all_that_changed(eipack: Eipack, write: Write) -> None:
    words = ("compare", write("a.json"), write("b.json", 1.1), "--max-regression", "5%", "--json")
    result = eipack(*words)
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["schema_version"] == 1
    assert found["max_regression"] == 0.05
    assert {one["figure"] for one in found["regressions"]} == {"p50_ms", "p90_ms", "mean_ms"}
    (row,) = found["rows"]
    assert [one["verdict"] for one in row["figures"]] == ["slower"] * 3
    assert row["figures"][0]["low"] < row["figures"][0]["ratio"] < row["figures"][0]["high"]


def test_a_row_that_fails_newly_is_exit_code_1(eipack: Eipack, write: Write) -> None:
    failed = Row("cuda:0", error="no such\x1b[2J device")
    result = eipack("compare", write("a.json"), write("b.json", 1.0, failed))
    assert result.exit_code == 1
    assert r"failed in B: cuda:0: no such\x1b[2J device" in result.stdout
    assert "error: cuda:0 fails in " in result.stderr
    assert eipack("compare", write("b.json", 1.0, failed), write("a.json")).exit_code == 0


def test_rows_of_one_report_are_listed(eipack: Eipack, write: Write) -> None:
    other = Row("eia:0", "torchscript-trace", samples_ns=(5, 6), calls=2)
    shown = eipack("compare", write("a.json", 1.0, other), write("b.json")).stdout
    assert "only in A: eia:0, torchscript-trace" in shown


def test_another_machine_is_a_warning(eipack: Eipack, write: Write) -> None:
    result = eipack("compare", write("a.json"), write("b.json", machine="another"))
    assert result.exit_code == 0
    assert result.stderr == "eipack: warning: machine differs: a processor, then another\n"


def test_an_instance_that_nobody_named_is_unknown(eipack: Eipack, write: Write) -> None:
    result = eipack("compare", write("a.json", instance="c5.large"), write("b.json"))
    assert result.stderr == "eipack: warning: instance differs: c5.large, then unknown\n"


def test_different_packages_are_refused_unless_allowed(eipack: Eipack, write: Write) -> None:
    pair = write("a.json"), write("b.json", package_digest="blake3:" + "1" * 64)
    assert_one_line(eipack("compare", *pair), 1, "different packages", "--different-packages")
    result = eipack("compare", *pair, "--different-packages")
    assert result.exit_code == 0
    assert "warning: the packages differ" in result.stderr


def test_a_single_call_cannot_be_compared(eipack: Eipack, write: Write) -> None:
    result = eipack("compare", write("a.json"), write("b.json", calls=1))
    assert_one_line(result, 1, "too few calls to be compared (1 at most)", "--calls 1000")


def test_no_call_cannot_be_compared(eipack: Eipack, write: Write) -> None:
    assert_one_line(eipack("compare", write("a.json"), write("b.json", calls=0)), 1, "latencies")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "this is no report"),
        (b"not json", "this is no report"),
        (b"\xff\xfe", "this is no report"),
        (b"[]", "this is no report"),
        (b'{"schema_version": 99}', "schema version 99"),
        (b'{"schema_version": 1}', "schema version 1"),
        (b'{"schema_version": 2}', "this is no report"),
        (None, "this is no report"),
    ],
    ids=["empty", "text", "binary", "list", "later", "earlier", "without rows", "truncated"],
)
def test_what_is_no_report_is_one_line_that_names_the_file(
    eipack: Eipack, write: Write, tmp_path: Path, content: bytes | None, said: str
) -> None:
    good, bad = write("a.json"), tmp_path / "b.json"
    bad.write_bytes(good.read_bytes()[:500] if content is None else content)
    assert_one_line(eipack("compare", good, bad), 1, "b.json", said)
    assert_one_line(eipack("compare", bad, good), 1, "b.json", said)


def test_a_missing_file_is_one_line(eipack: Eipack, write: Write, tmp_path: Path) -> None:
    result = eipack("compare", write("a.json"), tmp_path / "b.json")
    assert_one_line(result, 1, "cannot read", "there is no such file")


def test_an_unknown_figure_is_wrong_use(eipack: Eipack, write: Write) -> None:
    result = eipack("compare", write("a.json"), write("b.json"), "--figure", "load_ms")
    assert_one_line(result, 2, "load_ms")


def test_one_report_alone_is_wrong_use(eipack: Eipack, write: Write) -> None:
    assert_one_line(eipack("compare", write("a.json")), 2, "B.json")


def test_help_has_an_example(eipack: Eipack) -> None:
    assert "eipack compare before.json after.json" in eipack("compare", "--help").stdout
