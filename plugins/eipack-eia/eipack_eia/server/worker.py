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
from typing import Any

import msgspec
from attrs import field, frozen

from eipack.errors import EipackError
from eipack.target import Target
from eipack_eia.endpoint import Endpoint
from eipack_eia.sizes import SliceSize

READY = b"ready\n"


@frozen
class Settings:
    """All that a process needs to know; it travels as JSON."""

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
        sys.exit(f"eipack eia: {error}")
    signal.signal(signal.SIGTERM, lambda *_: accelerator.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and sends SIGTERM
    Thread(target=_follow_parent, args=(accelerator.stop,), daemon=True).start()
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    accelerator.serve()


def _follow_parent(stop: Callable[[], None]) -> None:
    """Stop when the parent ends, however it does: it holds the other end of stdin open."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    stop()


def make(settings: Settings, listening: socket.socket) -> Any:
    """Put an accelerator together.

    Raises:
        EipackError: Its device, files or store cannot be used.
    """
    from eipack.registry import locate
    from eipack.torch_backend import TorchBackend
    from eipack_eia.server.accelerator import Accelerator, Parts
    from eipack_eia.server.access import Access, Limits
    from eipack_eia.server.batching import Batching
    from eipack_eia.server.description import Description
    from eipack_eia.server.enforcement import enforce
    from eipack_eia.server.models import Models
    from eipack_eia.server.proving import Prover
    from eipack_eia.server.scheduler import Scheduler
    from eipack_eia.server.store import Store

    backend, place = locate(Target.parse(settings.on))
    trust = [Path(name) for name in settings.trust] or None
    store = Store(Path(settings.store), settings.store_bytes, trust)
    most = settings.max_batch
    batching = Batching(most, settings.max_delay_us * 1000) if most > 1 else None
    enforced = enforce(settings.size, place, settings.id, settings.workers)
    pooled = isinstance(backend, TorchBackend) and enforced.get("threads", 1) > 1
    scheduler = Scheduler(settings.workers, settings.queue, batching, pooled=pooled)
    loaded = None if batching is None else Prover(scheduler, most).consider
    parts = Parts(
        models=Models(
            store, place, settings.size.memory_bytes, trust, loaded, enforced.get("threads")
        ),
        store=store,
        scheduler=scheduler,
        access=Access.plan(
            Endpoint.parse(settings.listen),
            token_file=_path(settings.token_file),
            no_token=settings.no_token,
            cert=_path(settings.certificate),
            key=_path(settings.key),
            client_ca=_path(settings.client_ca),
            insecure=settings.insecure,
            allow_hosts=settings.allow_hosts,
        ),
        limits=Limits(connections=settings.connections, body_bytes=settings.body_bytes),
        description=Description(settings.id, settings.size, enforced),
    )
    return Accelerator(parts, listening, call_timeout_s=settings.call_timeout_s)


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


if __name__ == "__main__":
    main()
