"""The process of one accelerator; its settings come on stdin, its socket from its parent.

Secrets are in neither: tokens and keys lie in files that the settings name.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import msgspec
from attrs import field, frozen

from eipack.errors import EipackError
from eipack.target import Target
from eipack_eia.endpoint import Endpoint
from eipack_eia.server.fixed import Fixed
from eipack_eia.sizes import SliceSize

if TYPE_CHECKING:
    from eipack_eia.server.accelerator import Parts
    from eipack_eia.server.access import Access, Limits
    from eipack_eia.server.models import Model
    from eipack_eia.server.scheduler import Scheduler

READY = b"ready\n"


@frozen
class Settings:
    """All that a process needs to know; it travels as JSON.

    With `fixed` it is no accelerator: it serves those packages on the whole device, without a
    store, for `threads` a call.
    """

    id: str
    on: str
    listen: str
    descriptor: int
    size: SliceSize
    store: str
    store_bytes: int
    workers: int
    queue: int
    call_timeout_s: float
    connections: int
    body_bytes: int
    max_batch: int = 1
    max_delay_us: int = 0
    trust: tuple[str, ...] = ()
    token_file: str | None = None
    no_token: bool = False
    certificate: str | None = None
    key: str | None = None
    client_ca: str | None = None
    insecure: bool = False
    allow_hosts: tuple[str, ...] = field(default=())
    fixed: Fixed | None = None
    threads: int | None = None

    @property
    def command(self) -> str:
        """What it was started by."""
        return "eipack eia" if self.fixed is None else "eipack serve"

    def to_json(self) -> bytes:
        """Return the settings as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> Settings:
        """Read them again."""
        return msgspec.json.decode(data, type=cls)


def main() -> None:
    """Run one accelerator until SIGTERM, or until its parent is gone."""
    settings = Settings.from_json(sys.stdin.buffer.readline())
    listening = socket.socket(fileno=settings.descriptor)
    try:
        accelerator = make(settings, listening)
    except EipackError as error:
        _answer_parent(" ".join(str(error).split()).encode() + b"\n")
        sys.exit(1)
    signal.signal(signal.SIGTERM, lambda *_: accelerator.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and sends SIGTERM
    Thread(target=_follow_parent, args=(accelerator.stop,), daemon=True).start()
    _answer_parent(READY)
    accelerator.serve()


def _answer_parent(line: bytes) -> None:
    """Say that this process serves, or why it cannot."""
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def _follow_parent(stop: Callable[[], None]) -> None:
    """Stop when the parent ends, however it does: it holds the other end of stdin open."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    stop()


def make(settings: Settings, listening: socket.socket) -> Any:
    """Put a server together.

    Raises:
        EipackError: Its device, files or store cannot be used.
    """
    from eipack_eia.server.accelerator import Accelerator

    parts = _lent(settings) if settings.fixed is None else _fixed(settings, settings.fixed)
    return Accelerator(parts, listening, call_timeout_s=settings.call_timeout_s)


def _lent(settings: Settings) -> Parts:
    """Make the parts of an accelerator, which holds to the size of its slice."""
    from eipack.registry import locate
    from eipack_eia.server.accelerator import Parts
    from eipack_eia.server.description import Description
    from eipack_eia.server.enforcement import enforce
    from eipack_eia.server.models import Models
    from eipack_eia.server.store import Store

    _, place = locate(Target.parse(settings.on))
    trust = _trust(settings)
    store = Store(Path(settings.store), settings.store_bytes, trust)
    enforced = enforce(settings.size, place, settings.id, settings.workers)
    scheduler = _scheduler(settings, enforced.get("threads", 1))
    return Parts(
        models=Models(
            store,
            place,
            settings.size.memory_bytes,
            trust,
            _loaded(settings, scheduler),
            enforced.get("threads"),
        ),
        store=store,
        scheduler=scheduler,
        access=_access(settings),
        limits=_limits(settings),
        description=Description(settings.id, settings.size, enforced),
    )


def _fixed(settings: Settings, fixed: Fixed) -> Parts:
    """Make the parts of a server whose models are loaded before it answers."""
    import torch

    from eipack.registry import locate
    from eipack_eia.server.accelerator import Parts

    _, place = locate(Target.parse(settings.on))
    scheduler = _scheduler(settings, settings.threads or torch.get_num_threads())
    loaded = _loaded(settings, scheduler)
    return Parts(
        models=fixed.load(place, _trust(settings), loaded, settings.threads),
        store=None,
        scheduler=scheduler,
        access=_access(settings),
        limits=_limits(settings),
        description=None,
    )


def _scheduler(settings: Settings, threads: int) -> Scheduler:
    from eipack.registry import locate
    from eipack.torch_backend import TorchBackend
    from eipack_eia.server.batching import Batching
    from eipack_eia.server.scheduler import Scheduler

    backend, _ = locate(Target.parse(settings.on))
    most = settings.max_batch
    batching = Batching(most, settings.max_delay_us * 1000) if most > 1 else None
    pooled = isinstance(backend, TorchBackend) and threads > 1
    return Scheduler(settings.workers, settings.queue, batching, pooled=pooled)


def _loaded(settings: Settings, scheduler: Scheduler) -> Callable[[Model], None] | None:
    """Return whom to tell of models, where batches are made."""
    from eipack_eia.server.proving import Prover

    return None if scheduler.batching is None else Prover(scheduler, settings.max_batch).consider


def _access(settings: Settings) -> Access:
    from eipack_eia.server.access import Access

    return Access.plan(
        Endpoint.parse(settings.listen),
        token_file=_path(settings.token_file),
        no_token=settings.no_token,
        cert=_path(settings.certificate),
        key=_path(settings.key),
        client_ca=_path(settings.client_ca),
        insecure=settings.insecure,
        allow_hosts=settings.allow_hosts,
    )


def _limits(settings: Settings) -> Limits:
    from eipack_eia.server.access import Limits

    return Limits(connections=settings.connections, body_bytes=settings.body_bytes)


def _trust(settings: Settings) -> list[Path] | None:
    return [Path(name) for name in settings.trust] or None


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


if __name__ == "__main__":
    main()
