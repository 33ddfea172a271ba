from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

import eipack
from eipack.measuring.parts import Splitter
from eipack.measuring.report import Parts

pytest.importorskip("eipack_eia")

from eipack_eia import attached
from eipack_eia.client.infer import Timing
from eipack_eia.endpoint import Endpoint

_START_S = 60.0


def timing(total_ms: float, queue_ms: float, compute_ms: float) -> Timing:
    server = f"queue;dur={queue_ms}, compute;dur={compute_ms}, transfer;dur=0".encode()
    return Timing(int(total_ms * 1e6), 1_000_000, server)


def remote(*timings: Timing) -> Any:
    return SimpleNamespace(_runner=SimpleNamespace(timings=deque(timings, maxlen=1000)))


def call(session: Any, *timings: Timing) -> None:
    session._runner.timings.extend(timings)


def test_the_parts_are_the_medians_over_all_turns() -> None:
    session = remote()
    splitter = Splitter(session)
    for ten in (timing(10, 1, 6), timing(20, 3, 6)):
        splitter.start()
        call(session, ten, timing(30, 5, 20))
        splitter.stop()
    assert splitter.parts() == Parts(network_ms=5.0, queue_ms=4.0, compute_ms=13.0)


def test_the_parts_of_a_call_are_all_of_its_time() -> None:
    session = remote()
    splitter = Splitter(session)
    splitter.start()
    call(session, timing(10, 1, 6))
    splitter.stop()
    parts = splitter.parts()
    assert parts is not None
    assert parts.network_ms + parts.queue_ms + parts.compute_ms == pytest.approx(10)


def test_calls_between_the_turns_do_not_count() -> None:
    session = remote(timing(1000, 100, 100))
    splitter = Splitter(session)
    splitter.start()
    call(session, timing(10, 1, 6))
    splitter.stop()
    call(session, timing(1000, 100, 100))
    splitter.start()
    splitter.stop()
    assert splitter.parts() == Parts(3.0, 1.0, 6.0)


def test_a_turn_without_calls_has_no_parts() -> None:
    splitter = Splitter(remote())
    splitter.start()
    splitter.stop()
    assert splitter.parts() is None


def test_a_session_on_this_machine_has_no_parts(package: Path) -> None:
    with eipack.load(package) as session:
        splitter = Splitter(session)
        splitter.start()
        session.run_flat(*session.package.samples()[0])
        splitter.stop()
    assert splitter.parts() is None


@pytest.fixture
def accelerator(tmp_path: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "eipack", "eia", "serve", "--json"]
    command += ["--listen", "127.0.0.1:0", "--store", str(tmp_path), "--memory-gb", "1"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        said = json.loads(_first_line(process))
        one = attached.attach(Endpoint.parse(said["endpoint"]), accelerator_id=said["id"])
        yield f"eia:{one.ordinal}"
        attached.detach(one.id)
    finally:
        process.terminate()
        process.communicate(timeout=_START_S)


def _first_line(process: subprocess.Popen[str]) -> str:
    lines: list[str] = []
    assert process.stdout is not None
    reader = Thread(target=lambda: lines.append(process.stdout.readline()), daemon=True)
    reader.start()
    reader.join(_START_S)
    assert lines, "the accelerator did not start"
    return lines[0]


@pytest.mark.slow
def test_a_real_accelerator_tells_the_parts_of_every_call(package: Path, accelerator: str) -> None:
    with eipack.load(package, accelerator) as session:
        inputs, _ = session.package.samples()
        splitter = Splitter(session)
        for _ in range(2):
            splitter.start()
            for _ in range(20):
                session.run_flat(*inputs)
            splitter.stop()
        round_trip_ms = session.info.details["round_trip_ms"]
    parts = splitter.parts()
    assert parts is not None
    assert min(parts.network_ms, parts.queue_ms, parts.compute_ms) > 0
    assert parts.network_ms + parts.queue_ms + parts.compute_ms == pytest.approx(
        round_trip_ms, rel=0.5
    )
