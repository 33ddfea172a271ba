"""Pools for the tests: a registry's desk without Ray, and real accelerators for it to lend."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
import torch
from attrs import define, field
from eipack_eia.endpoint import Endpoint
from eipack_eia.server.supervisor import listen_at
from eipack_ray.desk import Desk
from eipack_ray.ledger import Ledger
from eipack_ray.messages import Member
from eipack_ray.settings import Guard
from torch import nn

import eipack

MEDIUM, GB = "eia2.medium", 1_000_000_000
NOBODY = "127.0.0.1:9"
START_S, STOP_S = 60.0, 30.0
X = torch.linspace(-1, 1, 16)[None]


@define
class Pool:
    """A pool whose registry runs in this process; its port stays the same when it is stopped."""

    lease_s: float
    guard: Guard
    ledger: Ledger = field(init=False)
    desk: Desk | None = field(default=None, init=False)
    where: Endpoint = field(factory=lambda: Endpoint("127.0.0.1", 0), init=False)

    def start(self, *, recovered: bool = False, fresh: bool = True) -> None:
        if fresh:
            self.ledger = Ledger("gpus", self.lease_s, recovered=recovered)
        listening, self.where = listen_at(self.where)
        self.desk = Desk(self.ledger, self.guard.plan(self.where), listening, self.where)

    def stop(self) -> None:
        if self.desk is not None:
            self.desk.stop()
        self.desk = None

    def add(self, name: str, endpoint: str = NOBODY, *, serving: bool = True) -> None:
        self.ledger.report(name, MEDIUM, 2 * GB, endpoint, "node", serving=serving)

    def holders(self) -> list[str]:
        return [each.id for each in self.ledger.members() if each.holders]


@contextmanager
def pooling(lease_s: float = 60.0, **guard: Any) -> Iterator[Pool]:
    pool = Pool(lease_s, Guard(**guard) if guard else Guard(no_token=True))
    pool.start()
    try:
        yield pool
    finally:
        pool.stop()


@pytest.fixture
def pool() -> Iterator[Pool]:
    with pooling() as running:
        yield running


@contextmanager
def serving(store: Path, accelerator: str | None = None) -> Iterator[dict[str, Any]]:
    """Run `eipack eia serve` on a free port, under an id that it had elsewhere if one is given."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    if accelerator is not None:
        kept = store / f"127.0.0.1_{port}"
        kept.mkdir(parents=True)
        (kept / "id").write_text(accelerator)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "eipack", "eia", "serve", "--json", "--no-token"),
            *("--listen", f"127.0.0.1:{port}", "--store", str(store)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        yield json.loads(first_line(process))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=STOP_S)


def first_line(process: subprocess.Popen[str]) -> str:
    lines: list[str] = []
    assert process.stdout is not None
    reader = Thread(target=lambda: lines.append(process.stdout.readline()), daemon=True)
    reader.start()
    reader.join(START_S)
    if not lines or not lines[0]:
        process.kill()
        raise AssertionError("it did not start")
    return lines[0]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).eval()
    made = eipack.export(model, (X,), method="trace", programs=["torchscript"], name="small")
    return made.save(tmp_path_factory.mktemp("package") / "small.eipack")


@pytest.fixture(scope="session")
def right(package: Path) -> Callable[[torch.Tensor], bool]:
    """Tell whether an answer to `X` is the model's."""
    with eipack.load(package, "cpu") as session:
        want = session(X)
    return lambda y: torch.allclose(y, want, rtol=1e-4, atol=1e-5)


@pytest.fixture
def home(fresh_home: Path, shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Start with nothing attached, and end with no keeper of leases left."""
    for name in ("EIPACK_ACCELERATORS", "EI_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("USER", "tester")
    config = fresh_home / "config"
    config.mkdir(mode=0o700)
    key = shared_home / "config" / "signing-key.pem"
    if key.exists():  # so that the package of the session is trusted here too
        (config / key.name).touch(0o600)
        (config / key.name).write_bytes(key.read_bytes())
    yield config
    stop_keeper(config)


def keeper_of(config: Path) -> psutil.Process | None:
    """Find the process that keeps the leases of a folder of settings."""
    try:
        number = int((config / "pool-keeper.lock").read_text())
        process = psutil.Process(number)
        return process if "eipack_ray.keeper" in process.cmdline() else None
    except (FileNotFoundError, ValueError, psutil.Error):
        return None


def stop_keeper(config: Path) -> None:
    # One that has only just been started has not said yet which process it is, and ends by itself.
    (config / "accelerators.json").unlink(missing_ok=True)
    process = keeper_of(config)
    if process is not None:
        process.kill()
        process.wait(STOP_S)


def member(pool: Pool, name: str) -> Member:
    return next(each for each in pool.ledger.members() if each.id == name)
