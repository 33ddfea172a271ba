"""What the tests of faults share: an accelerator in this process, and a model that obeys."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import Any, Final
from uuid import uuid4

import torch
from attrs import frozen
from eipack_eia import attached
from eipack_eia.attached import Files, made_id
from eipack_eia.client.control import Control
from eipack_eia.credentials import Credentials
from eipack_eia.endpoint import Endpoint
from eipack_eia.server.accelerator import Accelerator, Parts
from eipack_eia.server.access import Access, Limits
from eipack_eia.server.description import Description
from eipack_eia.server.models import Models
from eipack_eia.server.scheduler import Scheduler
from eipack_eia.server.store import Store
from eipack_eia.sizes import size_of
from torch import Tensor, nn

import eipack
from eipack.errors import AcceleratorUnavailable
from eipack.target import Target

FOREVER: Final = 1e30
FAIL: Final = -2000.0
_WIDTH: Final = 512
_PATIENCE_S: Final = 10.0


class Obedient(nn.Module):
    """A model whose first input element tells it to take its time, or to fail."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y = self.wide(x)
        steps = float(x[0, 0])
        assert steps > -1000.0, "told to fail"
        z = y
        while steps > 1000.0:
            z = self.wide(z)
            steps -= 1.0
        return y + z - z


def obedient(folder: Path, name: str = "obedient") -> Path:
    """Package the model that obeys."""
    package = eipack.export(
        Obedient().eval(),
        inputs=(asked(0.5),),
        method="script",
        programs=["torchscript"],
        name=name,
    )
    return package.save(folder / f"{name}.eipack")


class Wide(nn.Module):
    """More weights than go into one chunk of an upload; seeds make different ones."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.wide = nn.Linear(1500, 1500)

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(x)


WIDE_INPUT: Final = torch.linspace(-1, 1, 1500)[None]


def wide(folder: Path, seed: int) -> tuple[Path, Tensor]:
    """Package a model of 9 MB; return it with its answer for `WIDE_INPUT`."""
    model = Wide(seed).eval()
    package = eipack.export(
        model, inputs=(WIDE_INPUT,), programs=["torchscript"], name=f"wide-{seed}"
    )
    with torch.no_grad():
        return package.save(folder / f"wide-{seed}.eipack"), model(WIDE_INPUT)


def asked(first: float, rest: float = 1.0) -> Tensor:
    """Return an input for the model that obeys."""
    x = torch.linspace(-rest, rest, _WIDTH)[None].clone()
    x[0, 0] = first
    return x


def seconds(duration: float) -> float:
    """Return what makes the model that obeys take about so long on this machine."""
    return 1000.0 + duration * _steps_per_s()


_measured: list[float] = []


def _steps_per_s() -> float:
    if not _measured:
        model = Obedient().eval()
        with torch.no_grad():
            model(asked(1100.0))
            began = perf_counter()
            for _ in range(500):
                model.wide(asked(0.0))
        _measured.append(500 / (perf_counter() - began))
    return _measured[0]


def right(answer: Tensor, first: float) -> bool:
    """Tell whether an answer is the one to `asked(first)`."""
    with torch.no_grad():
        return torch.allclose(answer, Obedient().eval().wide(asked(first)), rtol=1e-3, atol=1e-3)


@frozen
class Local:
    """An accelerator in this process."""

    endpoint: Endpoint
    parts: Parts
    accelerator: Accelerator
    files: Files

    @property
    def control(self) -> Control:
        """A way to ask it."""
        return Control(self.endpoint, self.credentials, timeout_s=_PATIENCE_S)

    @property
    def credentials(self) -> Credentials:
        """What it accepts."""
        return self.files.credentials(self.endpoint)

    def executed(self) -> int:
        """Count the calls that were run, whatever came of their answers."""
        return sum(model.statistics.inferences for model in self.parts.models.resident())


@contextmanager
def accelerating(
    folder: Path,
    *,
    limits: Limits | None = None,
    queue: int = 64,
    memory_bytes: int = 1 << 30,
    files: Files | None = None,
    **access: Any,
) -> Iterator[Local]:
    """Run an accelerator on a thread until the block ends."""
    listening = socket.create_server(("127.0.0.1", 0))
    scheme: Any = "https" if "cert" in access else "http"
    endpoint = Endpoint("127.0.0.1", listening.getsockname()[1], scheme)
    with Store(folder, 1 << 30) as store:
        parts = Parts(
            models=Models(store, Target("cpu"), memory_bytes),
            store=store,
            scheduler=Scheduler(1, queue),
            access=Access.plan(endpoint, **access),
            limits=limits or Limits(),
            description=Description(f"eia-{uuid4().hex}", size_of(None, memory_bytes / 1e9), {}),
        )
        accelerator = Accelerator(parts, listening, call_timeout_s=60)
        thread = Thread(target=accelerator.serve, daemon=True)
        thread.start()
        try:
            yield Local(endpoint, parts, accelerator, files or Files())
        finally:
            accelerator.stop()
            thread.join(_PATIENCE_S)


@contextmanager
def session_at(
    endpoint: Endpoint, path: Path, files: Files | None = None, **options: Any
) -> Iterator[eipack.Session]:
    """Attach what listens there, and open a package on it."""
    with ExitStack() as stack:
        one = attached.attach(endpoint, files or Files(), accelerator_id=made_id(endpoint))
        stack.callback(_detach, one.id)
        yield stack.enter_context(eipack.load(path, f"eia:{one.ordinal}", **options))


def _detach(name: str) -> None:
    with suppress(AcceleratorUnavailable):  # it may have been attached twice
        attached.detach(name)


def exchange(endpoint: Endpoint, *pieces: bytes, pause_s: float = 0.0, end: bool = False) -> bytes:
    """Send bytes over a connection of its own, and return all that comes until it is closed."""
    received = bytearray()
    with socket.create_connection((endpoint.host, endpoint.port), _PATIENCE_S) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                connection.sendall(piece)
                if select.select([connection], [], [], pause_s)[0]:
                    break
            if end:
                connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(1 << 16):
                received += data
    return bytes(received)
