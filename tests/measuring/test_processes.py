"""`eipack.benchmark` with a fresh process for each target and program, and how these may end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

import eipack
import eipack.tuning
from eipack.errors import ExecutionFailed, UntrustedPackage
from eipack.measuring import Report, entrant, lane
from eipack.trust.keys import SigningKey

TARGETS = ["cpu", "cpu+crooked", "cpu+ending", "cpu+hanging", "cpu+failing"]


@pytest.fixture(scope="module")
def report(package: Path, engines: None) -> Report:
    """Measure one sound engine beside four broken ones, which are not waited for long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lane, "PATIENCE_S", 1.0)
        patch.setattr(lane, "_WARM_UP_S", 4.0)
        patch.setattr(entrant, "PATIENCE_S", 60.0)
        return eipack.benchmark(package, TARGETS, calls=60, concurrency=(2,), threads=1)


@pytest.mark.slow
class TestBesideBrokenEngines:
    def test_the_sound_one_is_measured_to_the_end(self, report: Report) -> None:
        for row in report.rows[:2]:
            assert (row.target, row.error, row.calls) == ("cpu", None, 60)
            assert row.threads == 1

    def test_its_cold_start_holds_the_process_the_load_and_the_first_call(
        self, report: Report
    ) -> None:
        row = report.rows[0]
        assert row.cold_start_ms is not None
        assert row.cold_start_ms > (row.load_ms or 0) + (row.first_ms or 0) + 100

    def test_wrong_outputs_are_told_from_other_failures(self, report: Report) -> None:
        crooked = report.rows[2:4]
        assert all("is not the recorded one" in (row.error or "") for row in crooked)
        assert [row.wrong for row in report.rows] == [False] * 2 + [True] * 2 + [False] * 6

    def test_a_crash_names_its_signal_and_what_was_printed_last(self, report: Report) -> None:
        for row in report.rows[4:6]:
            assert "was ended by SIGSEGV" in (row.error or "")
            assert "about to fall over" in (row.error or "")

    def test_one_that_hangs_is_a_failed_row(self, report: Report) -> None:
        for row in report.rows[6:8]:
            assert "gave no answer within" in (row.error or "")

    def test_an_error_of_its_own_is_told_in_one_line(self, report: Report) -> None:
        for row in report.rows[8:]:
            assert row.error == "small failed on cpu+failing: out of luck"

    def test_no_process_is_left(self, report: Report) -> None:
        assert not children()

    def test_the_noise_is_that_of_the_sound_one(self, report: Report) -> None:
        assert report.noise is not None
        assert report.noise.target == "cpu"

    def test_the_report_comes_back_from_json_as_it_was(self, report: Report) -> None:
        assert Report.from_json(report.to_json()) == report


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children(recursive=True) if measures(one)]


def measures(process: psutil.Process) -> bool:
    try:
        return "eipack.measuring.child" in " ".join(process.cmdline())
    except psutil.Error:  # it has ended meanwhile
        return False


def test_own_inputs_and_keys_travel_to_the_process(package: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    own = eipack.open(package).verify()
    key.write_text(own.pem)
    report = eipack.benchmark(
        package, inputs=torch.zeros(5, 8), calls=5, trust=str(key), batch=(3,)
    )
    (row,) = report.rows
    assert report.environment.input_bytes == 5 * 8 * 4
    assert (row.scenario.batch, row.calls) == (3, 5)


def test_a_choice_that_nothing_was_tuned_for_is_warned_of_as_by_load(package: Path) -> None:
    with pytest.warns(eipack.tuning.NotTuned):
        (row,) = eipack.benchmark(package, "cpu+auto", calls=5).rows
    assert (row.target, row.ran_on) == ("cpu+auto", "cpu")


def test_keys_that_did_not_sign_are_refused_before_a_process_starts(package: Path) -> None:
    with pytest.raises(UntrustedPackage, match="none of the keys"):
        eipack.benchmark(package, trust=SigningKey.generate().public)


def test_a_crash_of_the_only_row_is_raised(package: Path, engines: None) -> None:
    with pytest.raises(ExecutionFailed, match=r"cpu\+ending: its process was ended by SIGSEGV"):
        eipack.benchmark(package, "cpu+ending", calls=60)


def test_an_interrupted_run_leaves_no_process(package: Path) -> None:
    command = [str(Path(sys.executable).with_name("eipack")), "bench", str(package)]
    run = subprocess.Popen([*command, "--duration", "60s"], stderr=subprocess.PIPE, text=True)
    try:
        started = wait_for_child(run.pid)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=30)
    finally:
        run.kill()
        run.wait()
    assert (run.returncode, said) == (130, "eipack: interrupted\n")
    with pytest.raises(ProcessLookupError):
        os.kill(started, 0)


def wait_for_child(pid: int) -> int:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for one in psutil.Process(pid).children():
            if "eipack.measuring.child" in " ".join(one.cmdline()):
                return one.pid
        time.sleep(0.05)
    raise AssertionError("no process was started")
