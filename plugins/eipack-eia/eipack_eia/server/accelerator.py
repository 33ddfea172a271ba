"""One accelerator: a listening socket, a thread for each connection, and a watchdog."""

from __future__ import annotations

import os
import socket
import ssl
import sys
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Final

from attrs import frozen

from eipack.errors import AcceleratorOverloaded
from eipack_eia.faults import error_body
from eipack_eia.server.access import Access, Limits, secured
from eipack_eia.server.connection import converse
from eipack_eia.server.description import Description
from eipack_eia.server.http import Response, be_patient, send
from eipack_eia.server.models import Models
from eipack_eia.server.routes import Routes
from eipack_eia.server.scheduler import Scheduler
from eipack_eia.server.store import Store

HUNG: Final = 75
"""The exit code of a process that ends because a call hangs."""

_POLL_S: Final = 0.25
_HANDSHAKE_S: Final = 10.0


@frozen
class Parts:
    """What an accelerator is made of; a server of fixed models has no store and no description."""

    models: Models
    store: Store | None
    scheduler: Scheduler
    access: Access
    limits: Limits
    description: Description | None


class Accelerator:
    """Serve on a socket that listens already, until `stop`."""

    def __init__(self, parts: Parts, listening: socket.socket, *, call_timeout_s: float) -> None:
        self._parts = parts
        self._listening = listening
        self._call_timeout_s = call_timeout_s
        self._stopping = Event()
        self._open: dict[int, Thread] = {}
        self._lock = Lock()
        self._tls = parts.access.tls
        self._pinned = parts.models.on.device == "cuda"
        self._routes = Routes(
            parts.models,
            parts.store,
            parts.scheduler,
            parts.access,
            parts.description,
            self._stopping.is_set,
        )

    def serve(self) -> None:
        """Accept connections until `stop`; then let what runs and waits end."""
        Thread(target=self._watch, name="eia-watchdog", daemon=True).start()
        self._listening.settimeout(_POLL_S)
        while not self._stopping.is_set():
            try:
                connection, address = self._listening.accept()
            except TimeoutError:
                continue
            except OSError:
                if self._stopping.is_set():
                    break
                self._stopping.wait(_POLL_S)  # too many open files: some will close
                continue
            self._accept(connection, f"{address[0]}:{address[1]}")
        self._drain()

    def _accept(self, connection: socket.socket, peer: str) -> None:
        connection.setblocking(True)
        thread = Thread(target=self._converse, args=(connection, peer), name="eia", daemon=True)
        with self._lock:
            if len(self._open) >= self._parts.limits.connections:
                _refuse(connection, encrypted=self._tls is not None)
                return
            self._open[id(connection)] = thread
        thread.start()

    def _converse(self, connection: socket.socket, peer: str) -> None:
        number = id(connection)
        try:
            with suppress(OSError):
                if self._tls is not None:
                    connection = secured(self._tls, connection, _HANDSHAKE_S)
                converse(
                    connection,
                    peer,
                    self._routes,
                    self._parts.limits,
                    self._stopping,
                    pinned=self._pinned,
                )
        finally:
            with suppress(OSError):
                connection.close()
            with self._lock:
                del self._open[number]

    def stop(self) -> None:
        """Take no more connections and no more requests; what runs and waits is finished."""
        self._stopping.set()

    def _drain(self) -> None:
        self._listening.close()
        with self._lock:
            threads = list(self._open.values())
        for thread in threads:
            thread.join(self._call_timeout_s)
        self._parts.scheduler.stop()
        self._parts.models.close()

    def _watch(self) -> None:
        """End the process when a call hangs: nothing else ends native code."""
        while not self._stopping.wait(_POLL_S):
            if self._parts.scheduler.longest_ns() > self._call_timeout_s * 1e9:
                sys.stderr.write(
                    f"eipack eia: a call has run for {self._call_timeout_s:g} s; "
                    "the accelerator is started anew\n"
                )
                sys.stderr.flush()
                os._exit(HUNG)


def _refuse(connection: socket.socket, *, encrypted: bool) -> None:
    """Answer at once that there are too many connections; a TLS client is just hung up on."""
    with connection, suppress(OSError, ssl.SSLError):
        if not encrypted:
            be_patient(connection)
            name = AcceleratorOverloaded.__name__
            body = error_body("too many connections are open to this accelerator")
            answer = Response(503, [body], {"eipack-error": name})
            send(connection, [answer.head(keep_alive=False), *answer.body])
            connection.shutdown(socket.SHUT_WR)
