from __future__ import annotations

import threading
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import torch
from torch import nn

import eipack
from eipack.errors import (
    DependencyMissing,
    EipackError,
    ExecutionFailed,
    PackageIOError,
    SignatureMismatch,
    UntrustedPackage,
)
from eipack.measuring import mlperf
from eipack.measuring.mlperf import LoadGenResult
from eipack.measuring.mlperf_logs import Log

needs_loadgen = pytest.mark.skipif(
    mlperf.find_spec("mlperf_loadgen") is None, reason="LoadGen is not installed"
)
FILES = {"mlperf_log_summary.txt", "mlperf_log_detail.txt", "mlperf_log_accuracy.json"}


@pytest.fixture(scope="module")
def batched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    exported = eipack.export(
        nn.Sequential(nn.Linear(8, 4)).eval(),
        (torch.randn(2, 8),),
        dynamic_shapes={"input": {0: torch.export.Dim("batch", min=1, max=64)}},
        programs=["torchscript"],
        name="batched",
    )
    return exported.save(tmp_path_factory.mktemp("package") / "batched.eipack")


def run(package: Path, scenario: Any, folder: Path, **asked: Any) -> LoadGenResult:
    found = mlperf.run(package, scenario, folder, **{"seconds": 0.4, **asked})
    assert {path.name for path in folder.iterdir()} >= FILES
    assert f"Scenario : {scenario}" in (folder / "mlperf_log_summary.txt").read_text()
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]
    return found


@needs_loadgen
def test_a_single_stream_is_judged_by_its_percentile(batched: Path, tmp_path: Path) -> None:
    found = run(batched, "SingleStream", tmp_path / "logs", seed=5, percentile=95)
    assert found.valid
    assert found.reasons == ()
    assert found.samples > 130
    assert 0 < found.p50_ms <= found.p90_ms <= found.p95_ms <= found.p99_ms < 400
    estimate = found.conservative_ms["p95_ms"]
    assert estimate is not None
    assert estimate >= found.p95_ms
    assert found.samples_per_s == pytest.approx(found.samples / 0.4, rel=0.5)
    assert "schedule_rng_seed : 5" in (tmp_path / "logs" / "mlperf_log_summary.txt").read_text()


@needs_loadgen
def test_a_server_that_misses_its_limit_is_invalid_and_says_why(
    batched: Path, tmp_path: Path
) -> None:
    found = run(batched, "Server", tmp_path / "logs", rate_per_s=100.0, limit_ms=0.0001)
    assert not found.valid
    assert found.reasons[0] == "too many latencies were above the limit"
    assert found.samples_per_s == pytest.approx(100, rel=0.5)
    assert found.conservative_ms == {}


@needs_loadgen
def test_offline_samples_are_rows_in_batches(batched: Path, tmp_path: Path) -> None:
    found = run(batched, "Offline", tmp_path / "logs", batch=7, rate_per_s=400.0)
    assert found.samples > 160
    assert found.samples_per_s > 400


@needs_loadgen
def test_a_batch_that_the_package_does_not_take_is_refused(batched: Path, tmp_path: Path) -> None:
    with pytest.raises(SignatureMismatch, match=r"batch in 1\.\.64"):
        mlperf.run(batched, "Offline", tmp_path / "logs", batch=65)
    assert list(tmp_path.iterdir()) == []


@needs_loadgen
def test_an_empty_folder_that_is_there_is_filled(batched: Path, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    run(batched, "SingleStream", tmp_path / "logs", inputs=torch.zeros(1, 8), seconds=0.1)


@needs_loadgen
def test_a_folder_with_something_in_it_is_left_alone(batched: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(PackageIOError, match="already and not empty; name a new folder"):
        mlperf.run(batched, "SingleStream", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@needs_loadgen
def test_a_folder_that_cannot_be_made_is_refused(batched: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PackageIOError, match="cannot be"):
        mlperf.run(batched, "SingleStream", tmp_path / "file" / "logs")


@needs_loadgen
def test_a_package_that_is_not_trusted_is_refused(
    batched: Path, tmp_path: Path, fresh_home: Path
) -> None:
    with pytest.raises(UntrustedPackage):
        mlperf.run(batched, "SingleStream", tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


@needs_loadgen
def test_a_process_that_does_not_answer_in_time_is_ended(
    batched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlperf, "_LOAD_S", 0.05)
    began = monotonic()
    with pytest.raises(ExecutionFailed, match=r"batched on cpu: .*no answer within 0\.05 s"):
        mlperf.run(batched, "SingleStream", tmp_path / "logs")
    assert monotonic() - began < 10
    assert list(tmp_path.iterdir()) == []


@needs_loadgen
@pytest.mark.parametrize("scenario", ["SingleStream", "Server", "Offline"])
def test_an_error_inside_of_loadgen_is_raised_at_once(scenario: str, tmp_path: Path) -> None:
    from eipack.measuring.mlperf_child import Worker

    calls = iter(range(10**9))

    def fail_at_30() -> None:
        if next(calls) == 30:
            raise ExecutionFailed("told to fail")

    worker = Worker()
    worker._session = fail_at_30  # type: ignore[assignment]
    worker._args, worker._kwargs = (), {}
    worker._rows, worker._spent_ns = 1, [1_000_000]
    before = threading.active_count()
    asked = {"scenario": scenario, "rate_per_s": 300.0, "limit_ms": 1.0, "percentile": 90.0}
    with pytest.raises(ExecutionFailed, match="told to fail"):
        worker.run({**asked, "seconds": 0.5, "seed": 0, "folder": str(tmp_path)})
    end = monotonic() + 10
    while threading.active_count() > before and monotonic() < end:
        sleep(0.02)
    assert threading.active_count() == before


def test_without_loadgen_the_extra_is_named(
    batched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlperf, "find_spec", lambda _: None)
    with pytest.raises(DependencyMissing, match=r'pip install "eipack\[mlperf\]"'):
        mlperf.run(batched, "SingleStream", tmp_path / "logs")


@pytest.mark.parametrize(
    ("scenario", "asked", "said"),
    [
        ("MultiStream", {}, "choose SingleStream, Server, Offline"),
        ("SingleStream", {"seconds": 0.0}, "seconds is 0.0"),
        ("SingleStream", {"percentile": 100}, "percentile is 100"),
        ("SingleStream", {"batch": 4}, "batch is for Offline"),
        ("Server", {}, "give both"),
        ("Server", {"rate_per_s": 10.0}, "give both"),
        ("Server", {"rate_per_s": -1.0, "limit_ms": 5.0}, "rate_per_s is -1.0"),
        ("Offline", {"batch": 0}, "batch is 0"),
    ],
)
def test_what_means_nothing_is_refused(
    scenario: Any, asked: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        mlperf.run("missing.eipack", scenario, tmp_path / "logs", **asked)


def test_a_log_that_breaks_off_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "mlperf_log_detail.txt"
    path.write_text(':::MLLOG {"key": "loadgen_version", "value": "6"}\n:::MLLOG {"key": "res')
    log = Log(tmp_path)
    assert log.value("loadgen_version") == "6"
    with pytest.raises(EipackError, match="no 'result_validity', so the run did not end"):
        _ = log.valid
