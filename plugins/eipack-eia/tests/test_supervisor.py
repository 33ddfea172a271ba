"""Accelerators that are killed, hang, are stopped or started again, as their clients see it."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch
from eipack_eia.attached import Files
from eipack_eia.endpoint import Endpoint
from eipack_eia.server.accelerator import HUNG

import eipack
from eipack.errors import AcceleratorUnavailable

from .conftest import Served, serving
from .proxy import Fault, Proxy
from .rig import FOREVER, WIDE_INPUT, asked, obedient, right, seconds, session_at, wide

pytestmark = pytest.mark.timeout(60)

CALL_TIMEOUT_S = 2.0
RESTART_S = 30.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Path:
    return tmp_path_factory.mktemp("supervisor")


@pytest.fixture(scope="module")
def package(folder: Path) -> Path:
    return obedient(folder)


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    """One accelerator for the tests that harm its process, and let the supervisor mend it."""
    words = ("--memory-gb", "1", "--call-timeout-s", str(CALL_TIMEOUT_S))
    with serving(folder / "store", *words) as running:
        yield running


@pytest.fixture
def session(served: Served, package: Path) -> Iterator[eipack.Session]:
    with session_at(served.endpoint, package) as opened:
        assert right(opened(asked(1.5)), 1.5)
        yield opened


def worker(served: Served) -> psutil.Process:
    """Return the process that serves."""
    end = time.monotonic() + RESTART_S
    while time.monotonic() < end:
        if there := psutil.Process(served.process.pid).children():
            return there[0]
        time.sleep(0.02)
    raise AssertionError("there is no process that serves")


def kill(served: Served) -> psutil.Process:
    there = worker(served)
    os.kill(there.pid, signal.SIGKILL)
    return there


def executed(served: Served) -> int:
    models = served.control.json("GET", "v2/models/stats")["model_stats"]
    return sum(model["inference_count"] for model in models)


def begun(served: Served) -> None:
    """Wait until a process has taken up a call: its threads compute."""
    there = worker(served)
    before = sum(there.cpu_times()[:2])
    end = time.monotonic() + 10
    while sum(there.cpu_times()[:2]) < before + 0.05:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_killed_in_the_middle_of_a_call_it_is_started_anew_and_the_session_goes_on(
    served: Served, session: eipack.Session
) -> None:
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(session, asked(FOREVER))
        begun(served)
        killed = kill(served)
        with pytest.raises(AcceleratorUnavailable, match="was lost"):
            lost.result(2)
    assert right(session(asked(2.5)), 2.5)
    assert worker(served).pid != killed.pid
    assert executed(served) == 1


def test_killed_and_its_store_emptied_it_is_sent_the_package_again(
    served: Served, session: eipack.Session, folder: Path
) -> None:
    kill(served)
    for packages in folder.glob("store/*/packages"):
        shutil.rmtree(packages)
    with pytest.raises(AcceleratorUnavailable):
        session(asked(2.5))
    assert right(session(asked(3.5)), 3.5)


def test_killed_in_the_middle_of_an_upload_it_is_sent_the_rest(
    served: Served, tmp_path: Path
) -> None:
    path, expected = wide(tmp_path, 7)
    files = Files(token_file=Path(served.said["token_file"]))
    with Proxy(served.endpoint) as proxy, ThreadPoolExecutor(1) as pool:
        proxy.to_server.suffer(Fault(swallow_after=8_700_000))  # in the second chunk

        def upload() -> torch.Tensor:
            with session_at(proxy.endpoint, path, files) as session:
                return session(WIDE_INPUT)

        answer = pool.submit(upload)
        assert proxy.to_server.happened.wait(10)
        proxy.to_server.heal()
        kill(served)
        torch.testing.assert_close(answer.result(RESTART_S), expected)
        assert proxy.to_server.passed < 10_500_000


def test_a_call_that_hangs_costs_the_process_and_other_sessions_recover(
    served: Served, session: eipack.Session, package: Path
) -> None:
    hanging = worker(served)
    with session_at(served.endpoint, package) as other, ThreadPoolExecutor(2) as pool:
        hung = pool.submit(session, asked(FOREVER))
        begun(served)
        waiting = pool.submit(other, asked(1.5))
        for lost in (hung, waiting):
            with pytest.raises(AcceleratorUnavailable):
                lost.result(CALL_TIMEOUT_S + 2)
        assert right(other(asked(2.5)), 2.5)
        assert right(session(asked(3.5)), 3.5)
    assert worker(served).pid != hanging.pid


def test_what_was_ended_and_why_is_on_stderr(served: Served) -> None:
    errors = served.stop()
    assert f"ended with code {-signal.SIGKILL} and is started anew" in errors
    assert f"a call has run for {CALL_TIMEOUT_S:g} s" in errors
    assert f"ended with code {HUNG} and is started anew" in errors
    assert served.process.returncode == 0


def test_a_call_that_runs_is_answered_before_sigterm_ends_it(package: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "store", "--memory-gb", "1") as served:
        with session_at(served.endpoint, package) as session, ThreadPoolExecutor(1) as pool:
            first = seconds(1.0)
            running = pool.submit(session, asked(first))
            begun(served)
            served.process.terminate()
            assert right(running.result(10), first)
            with pytest.raises(AcceleratorUnavailable):
                session(asked(1.5))
        assert served.process.wait(10) == 0


@pytest.mark.slow
def test_started_again_on_the_same_port_after_a_kill_it_serves_the_same_sessions(
    package: Path, tmp_path: Path
) -> None:
    with serving(tmp_path / "store", "--memory-gb", "1") as served:
        endpoint, process = served.endpoint, worker(served)
        with session_at(endpoint, package) as session:
            session(asked(1.5))
            served.stop(signal.SIGKILL)
            process.wait(5)  # nothing is left behind that holds the port
            with pytest.raises(AcceleratorUnavailable):
                session(asked(1.5))
            words = ("--memory-gb", "1", "--listen", str(endpoint))
            with serving(tmp_path / "store", *words) as again:
                assert again.said["id"] == served.said["id"]
                assert Endpoint.parse(again.said["endpoint"]) == endpoint
                assert right(session(asked(2.5)), 2.5)
