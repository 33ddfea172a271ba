"""`eipack bench`: tables, limits, files and exit codes."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import Result

from eipack.cli.bench_table import number, short
from eipack.measuring import Scenario

from .conftest import Eipack, assert_one_line

HERE = ("--in-process", "--calls", 40)
SCHEMA = Path(__file__).parents[2] / "docs" / "reports" / "report.schema.json"


def tables(result: Result) -> list[list[str]]:
    """Return the lines of each table."""
    return [part.splitlines() for part in result.stdout.split("\n\n")]


def test_each_row_is_a_line_with_its_figures_and_what_cannot_be_told_apart(
    eipack: Eipack, package_file: Path
) -> None:
    words = ("--program", "trace", "--program", "script", "--no-aa")
    result = eipack("bench", package_file, *HERE, *words)
    assert result.exit_code == 0, result.stderr
    (heading, first, second), (start, *processes), where = tables(result)
    figures = ["mean_ms", "p50_ms", "p90_ms", "±", "p95_ms", "p99_ms", "calls/s", "memory"]
    assert heading.split() == ["target", "program", *figures]
    assert first.split()[:2] == ["cpu", "torchscript-trace"]
    assert second.split()[:2] == ["cpu", "torchscript-script"]
    assert "fastest" in first + second
    assert start.split()[:5] == ["target", "program", "cold_start_ms", "load_ms", "first_ms"]
    assert len(processes) == 2
    assert where[-1] == "calls of each row: 40"


def test_scenarios_are_rows_of_their_own(eipack: Eipack, package_file: Path) -> None:
    words = ("--concurrency", "1,2", "--rate", "500", "--offline", "--batch", "1,4")
    result = eipack("bench", package_file, *HERE, *words)
    assert result.exit_code == 0, result.stderr
    latencies, start, where = tables(result)
    assert latencies[0].split()[:3] == ["target", "program", "scenario"]
    scenarios = [line[len("cpu     torchscript-trace  ") :] for line in latencies[1:]]
    names = ["single-stream", "closed x2", "open 500/s", "offline"]
    expected = [f"{name}, batch {size}" for size in (1, 4) for name in names]
    assert [line[: len(name)] for line, name in zip(scenarios, expected, strict=True)] == expected
    assert len(start) == 2
    assert any(line.startswith("noise: cpu by torchscript-trace, opened twice") for line in where)


def test_a_process_of_its_own_has_a_cold_start(eipack: Eipack, package_file: Path) -> None:
    result = eipack("bench", package_file, "--calls", 10, "--json", "-")
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert row["cold_start_ms"] > row["load_ms"]
    jsonschema.validate(json.loads(result.stdout), json.loads(SCHEMA.read_text()))


def test_the_report_is_written_beside_the_tables(
    eipack: Eipack, package_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    words = ("--json", out, "--seed", 3, "--instance", "c5.large")
    result = eipack("bench", package_file, *HERE, *words)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-1] == f"report: {out}"
    report = json.loads(out.read_text())
    assert [row["calls"] for row in report["rows"]] == [40]
    assert report["environment"]["instance"] == "c5.large"
    assert report["settings"]["seed"] == 3
    assert_one_line(eipack("bench", package_file, "--json", out), 1, "--force")


@pytest.mark.parametrize(
    ("limit_ms", "calls", "verdict", "code"),
    [(10_000, 200, "pass", 0), (0.000_001, 200, "fail", 1), (10_000, 20, "insufficient (+44 ", 1)],
)
def test_a_limit_gives_each_row_a_verdict_and_the_exit_code(
    eipack: Eipack, package_file: Path, limit_ms: float, calls: int, verdict: str, code: int
) -> None:
    words = ("--in-process", "--calls", calls, "--p90-ms", limit_ms)
    result = eipack("bench", package_file, *words)
    assert result.exit_code == code, result.output
    assert verdict in result.stdout.splitlines()[1]
    if code:
        said = f"eipack: error: no row is known to keep p90_ms <= {limit_ms:g}\n"
        assert result.stderr == said


def test_a_target_that_fails_is_one_line_whatever_the_scenarios_and_exit_code_1(
    eipack: Eipack, package_file: Path
) -> None:
    words = ("--target", "cpu", "--target", "npu", "--concurrency", 2)
    result = eipack("bench", package_file, *HERE, *words)
    assert_one_line(result, 1, "npu", "no backend serves")
    assert "torchscript-trace" in result.stdout


def test_pictures_and_pages_are_written(eipack: Eipack, package_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot, html = tmp_path / "latency.svg", tmp_path / "report.html"
    result = eipack("bench", package_file, *HERE, "--plot", plot, "--html", html)
    assert result.exit_code == 0, result.stderr
    assert "<svg" in plot.read_text()
    assert "torchscript-trace" in html.read_text()
    assert result.stdout.splitlines()[-2:] == [f"written: {plot}", f"written: {html}"]


def test_loadgen_measures_and_leaves_its_files(
    eipack: Eipack, package_file: Path, tmp_path: Path
) -> None:
    pytest.importorskip("mlperf_loadgen")
    out, logs = tmp_path / "result.json", tmp_path / "logs"
    words = ("--mlperf", "SingleStream", "--mlperf-dir", logs, "--duration", "1s", "--json", out)
    result = eipack("bench", package_file, *words)
    assert json.loads(out.read_text())["scenario"] == "SingleStream"
    assert (logs / "mlperf_log_summary.txt").is_file()
    facts = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert (facts["files"], facts["report"]) == (str(logs), str(out))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--calls", 5, "--duration", "1s"), "--calls or --duration"),
        (("--calls", 5, "--until-stable"), "--calls or --until-stable"),
        (("--duration", "soon"), "60s or 2m"),
        (("--concurrency", "1,two"), "numbers above 0"),
        (("--rate", "0"), "numbers above 0"),
        (("--batch", ""), "numbers above 0"),
        (("--p90-ms", "0"), "p90-ms"),
        (("--p90-ms", "nan"), "a number of ms above 0"),
        (("--p90-ms", "inf"), "a number of ms above 0"),
        (("--plot", "latency.pdf"), ".png or .svg"),
        (("--html", "report.txt"), "ends in .html"),
        (("--mlperf", "Server"), "--mlperf-dir"),
        (("--mlperf-dir", "logs"), "give both"),
        (("--mlperf", "Offline", "--mlperf-dir", "logs", "--offline"), "--offline is not for"),
        (("--mlperf", "Server", "--mlperf-dir", "logs", "--rate", "1,2"), "one --rate"),
        (("--mlperf", "Server", "--mlperf-dir", "logs", "--mean-ms", "2"), "on a percentile"),
        (("--mlperf", "Server", "--mlperf-dir", "logs", "--rate", "2"), "--p99-ms"),
        (("--mlperf", "Offline", "--mlperf-dir", "logs", "--calls", 5), "say --duration"),
    ],
)
def test_what_does_not_fit_together_is_wrong_use(
    eipack: Eipack, package_file: Path, words: tuple[Any, ...], reason: str
) -> None:
    assert_one_line(eipack("bench", package_file, *words), 2, reason)


def test_a_batch_that_the_package_does_not_take_is_one_line(
    eipack: Eipack, package_file: Path
) -> None:
    assert_one_line(eipack("bench", package_file, *HERE, "--batch", 5), 1, "5 rows")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0.0201, "0.02010"),
        (0.1004, "0.100"),
        (0.0, "0.000"),
        (1.5, "1.500"),
        (12.345, "12.35"),
        (123.45, "123.5"),
    ],
)
def test_numbers_have_four_digits(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("words", "title"),
    [
        (("--calls", 5), "timing calls"),
        (("--duration", "0.2s"), "timing, ms"),
        (("--until-stable",), "timing, ms"),
    ],
)
def test_progress_says_what_it_counts(
    eipack: Eipack,
    package_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[Any, ...],
    title: str,
) -> None:
    titles: list[str] = []

    def counting(text: str) -> nullcontext[None]:
        titles.append(text)
        return nullcontext()

    monkeypatch.setattr("eipack.cli.commands.bench.counting", counting)
    result = eipack("bench", package_file, *words, "--target", "nowhere")
    assert result.exit_code == 1
    assert titles == [title]


def test_a_memory_that_no_row_has_is_no_column(eipack: Eipack, package_file: Path) -> None:
    result = eipack("bench", package_file, *HERE)
    assert "cpu_ms" in result.stdout
    assert "device memory" not in result.stdout


def test_large_numbers_are_whole() -> None:
    assert number(12345.6) == "12,346"


def test_scenarios_have_short_names() -> None:
    assert short(Scenario("open-loop", rate_per_s=2.5, batch=8)) == "open 2.5/s, batch 8"
