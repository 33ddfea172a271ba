"""A small model and its package, a server for applications, and a real accelerator."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest
import torch
from attrs import define
from eipack_eia import attached
from eipack_eia.endpoint import Endpoint
from torch import Tensor, nn

import eipack

START_S = 60.0
STOP_S = 20.0


class Scorer(nn.Module):
    """Rows in, rows out, by names; what one row gives does not depend on others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden = nn.Linear(8, 16)
        self.last = nn.Linear(16, 4)

    def forward(self, x: Tensor, shift: Tensor) -> dict[str, Tensor]:
        scores = self.last(self.hidden(x).relu()) + shift
        return {"scores": scores, "best": scores.argmax(-1, keepdim=True)}


X, SHIFT = torch.linspace(-1, 1, 24).reshape(3, 8), torch.linspace(0, 1, 12).reshape(3, 4)


@define
class Packed:
    """A package, and the model that it was made of."""

    path: Path
    model: nn.Module

    def inputs(self, rows: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
        generator = np.random.default_rng(seed)
        x, shift = generator.normal(size=(rows, 8)), generator.normal(size=(rows, 4))
        return {"x": x.astype("float32"), "shift": shift.astype("float32")}

    def expected(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            answer = self.model(**{name: torch.from_numpy(one) for name, one in inputs.items()})
        return {name: one.numpy() for name, one in answer.items()}

    def check(self, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> None:
        expected = self.expected(inputs)
        assert set(outputs) == set(expected)
        for name, array in expected.items():
            assert outputs[name].dtype == array.dtype
            np.testing.assert_allclose(outputs[name], array, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    batch = {0: torch.export.Dim("batch", min=1, max=16)}
    model = Scorer().eval()
    package = eipack.export(
        model,
        (X, SHIFT),
        dynamic_shapes={"x": batch, "shift": batch},
        programs=["torchscript", "exported"],
        name="scorer",
    )
    return Packed(package.save(tmp_path_factory.mktemp("packed") / "scorer.eipack"), model)


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """Serve an application by a real uvicorn on a free port until the block ends."""
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as bound:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on"))
        thread = Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        try:
            until = monotonic() + START_S
            while not server.started:
                assert thread.is_alive(), "uvicorn ended"
                assert monotonic() < until, "uvicorn did not start"
                sleep(0.01)
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(STOP_S)
            assert not thread.is_alive()


@contextmanager
def started(*words: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """Run an eipack command that says in JSON when it serves, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "eipack", *words, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", **environment},
    )
    try:
        yield process, _first_line(process)
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _first_line(process: subprocess.Popen[str]) -> Any:
    lines: list[str] = []
    stdout = process.stdout
    assert stdout is not None
    reader = Thread(target=lambda: lines.append(stdout.readline()), daemon=True)
    reader.start()
    reader.join(START_S)
    if not lines or not lines[0]:
        process.kill()
        raise AssertionError(f"it did not start: {process.communicate()[1]}")
    return json.loads(lines[0])


@contextmanager
def attached_accelerator(store: Path, *words: str) -> Iterator[str]:
    """Run a real accelerator in a process of its own; give the target that it is attached as."""
    command = ("eia", "serve", "--listen", "127.0.0.1:0", "--store", str(store), *words)
    with started(*command, "--memory-gb", "1") as (_, said), ExitStack() as stack:
        one = attached.attach(
            Endpoint.parse(said["endpoint"]), accelerator_id=said["id"], type_name=said["type"]
        )
        stack.callback(attached.detach, one.id)
        yield f"eia:{one.ordinal}"


@pytest.fixture(scope="module")
def accelerator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the target of one accelerator for all tests of a file."""
    with attached_accelerator(tmp_path_factory.mktemp("store")) as target:
        yield target


def from_clients(count: int, clients: int, call: Callable[[int], None]) -> None:
    """Make so many calls from several clients at once; the first error is raised."""
    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(call, number) for number in range(count)]:
            done.result()
