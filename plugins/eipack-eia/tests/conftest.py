"""A real accelerator in a process of its own, attached as `eia:0`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from attrs import define
from eipack_eia import attached
from eipack_eia.attached import Attached, Files
from eipack_eia.client.control import Control
from eipack_eia.endpoint import Endpoint

START_S = 60.0
STOP_S = 30.0


@define
class Served:
    """A running `eipack eia serve`, and what it said."""

    process: subprocess.Popen[str]
    said: dict[str, Any]

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""
        return Endpoint.parse(self.said["endpoint"])

    @property
    def control(self) -> Control:
        """A way to ask it, with the token that lies on this host."""
        return Control(self.endpoint, Files().credentials(self.endpoint), timeout_s=10.0)

    def attach(self) -> Attached:
        """Attach it to this host."""
        return attached.attach(
            self.endpoint, accelerator_id=self.said["id"], type_name=self.said["type"]
        )

    def stop(self, number: int = signal.SIGTERM) -> str:
        """Stop it and return what it wrote to stderr."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            _, errors = self.process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, errors = self.process.communicate()
        return errors


Serve = Callable[..., Any]


@contextmanager
def serving(store: Path, *words: str, **environment: str) -> Iterator[Served]:
    """Run `eipack eia serve` on a free port until the block ends."""
    command = [sys.executable, "-m", "eipack", "eia", "serve", "--json", "--store", str(store)]
    if "--listen" not in words:
        command += ["--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", **environment},
    )
    served = Served(process, _first_line(process))
    try:
        yield served
    finally:
        served.stop()


def _first_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    lines: list[str] = []
    assert process.stdout is not None
    reader = Thread(target=lambda: lines.append(process.stdout.readline()), daemon=True)
    reader.start()
    reader.join(START_S)
    if not lines or not lines[0]:
        process.kill()
        raise AssertionError(f"the accelerator did not start: {process.communicate()[1]}")
    return json.loads(lines[0])


@pytest.fixture(scope="session")
def accelerator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One accelerator on the CPU for all tests that do it no harm; attached as `eia:0`."""
    with serving(tmp_path_factory.mktemp("store"), "--memory-gb", "1") as served:
        one = served.attach()
        yield served
        attached.detach(one.id)


@pytest.fixture
def attached_accelerator(accelerator: Served) -> Attached:
    """Name the accelerator that `eia:0` is."""
    return attached.visible()[0]
