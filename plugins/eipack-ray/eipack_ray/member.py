"""The actor behind one accelerator: it holds the socket, runs the server process and watches it.

If the process ends it is started anew behind the same address. If the actor or its node is lost,
Ray starts the actor anew, elsewhere if need be, and the process that it leaves behind ends by
itself.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from shutil import rmtree
from threading import Event, Thread
from typing import Any, Final

from eipack_eia.server.access import Access, remove_local
from eipack_eia.server.supervisor import Slice, listen_at
from eipack_eia.server.worker import Settings
from eipack_eia.sizes import size_of

from eipack.errors import EipackError
from eipack_ray.settings import NAMESPACE, Offer, PoolSettings

_POLL_S: Final = 0.1
_AGAIN_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 10.0
_HEARTBEAT_S: Final = 5.0
_STOP_S: Final = 10.0


class Member:
    """One accelerator of a pool."""

    def __init__(self, pool: PoolSettings, accelerator: str, offer: Offer) -> None:
        ray: Any = import_module("ray")
        context = ray.get_runtime_context()
        self._ray, self._pool, self._id, self._offer = ray, pool, accelerator, offer
        self._size = size_of(offer.type)
        self._node = context.get_node_id()
        self._restarts = 0
        self._reported: tuple[Any, ...] = ()
        self._reported_at = 0.0
        self._stopping = Event()
        host = pool.host(ray.util.get_node_ip_address())
        listening, self._where = listen_at(offer.guard.at(host))
        self._access: Access = offer.guard.plan(self._where)
        self._slice = Slice(self._settings(listening.fileno()), listening)
        self._thread = Thread(target=self._run, name="member", daemon=True)
        self._thread.start()

    def _settings(self, descriptor: int) -> Settings:
        offer = self._offer
        return Settings(
            id=self._id,
            on=offer.on,
            listen=str(self._where),
            descriptor=descriptor,
            size=self._size,
            store=str(_store(self._pool.name, self._id)),
            store_bytes=offer.store_bytes,
            workers=1,
            queue=64,
            call_timeout_s=300.0,
            connections=256,
            body_bytes=1_000_000_000,
            trust=offer.trust,
            token_file=offer.guard.token_file or _text(self._access.token_path),
            no_token=offer.guard.no_token,
            certificate=offer.guard.cert,
            key=offer.guard.key,
            client_ca=offer.guard.client_ca,
            insecure=offer.guard.insecure,
        )

    def _run(self) -> None:
        """Start the process, and keep it running until `stop`."""
        self._begin()
        served = True
        while not self._stopping.wait(_POLL_S):
            serves = self._alive()
            self._restarts += served and not serves
            self._report(serving=serves)
            self._slice.tend(_log)
            served = self._alive()

    def _begin(self) -> None:
        """Start the process; one that this accelerator had before may still be ending."""
        pause_s = _AGAIN_S
        while not self._stopping.is_set():
            try:
                self._slice.start()
            except (EipackError, OSError) as error:
                self._report(serving=False, detail=str(error))
                self._stopping.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                return

    def _alive(self) -> bool:
        process = self._slice.process
        return process is not None and process.poll() is None

    def _report(self, *, serving: bool, detail: str = "") -> None:
        """Tell the registry at once what has changed, and now and then that this still is so."""
        process = self._slice.process
        process_id = process.pid if process is not None and serving else None
        said = (str(self._where), self._node, process_id, self._restarts, detail)
        now = time.monotonic()
        if said == self._reported and now - self._reported_at < _HEARTBEAT_S:
            return
        try:
            registry = self._ray.get_actor(self._pool.registry, namespace=NAMESPACE)
            registry.report.remote(
                self._id,
                self._offer.type,
                self._size.memory_bytes,
                said[0],
                said[1],
                serving=serving,
                process_id=process_id,
                restarts=self._restarts,
                detail=detail,
            )
        except (ValueError, self._ray.exceptions.RayError):
            return  # it is being restarted, and is told in the next turn
        self._reported, self._reported_at = said, now

    def stop(self) -> None:
        """Let the process end what it runs, for some seconds; take its token and packages away."""
        self._stopping.set()
        self._thread.join(_STOP_S)
        process = self._slice.process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._slice.listening.close()
        store = _store(self._pool.name, self._id)
        rmtree(store, ignore_errors=True)  # no accelerator gets its id again
        with suppress(OSError):  # others of the pool may be on this host
            store.parent.rmdir()
        if self._access.token_path is not None and self._access.tokens is not None:
            remove_local(self._where, self._access.tokens)


def _store(pool: str, accelerator: str) -> Path:
    import platformdirs

    folder = platformdirs.user_cache_path("eipack", appauthor=False)
    return folder / "accelerators" / f"pool-{pool}" / accelerator


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _log(text: str) -> None:
    sys.stderr.write(f"eipack eia pool: {text}\n")
