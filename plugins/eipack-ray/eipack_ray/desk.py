"""Where clients reach the book of a pool: a small server of JSON, so that they need no Ray."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import msgspec
from eipack_eia.faults import KIND_HEADER, error_body, status_of
from eipack_eia.server.access import Access, Rights, secured

from eipack.errors import EipackError, ProtocolError
from eipack_ray.ledger import Ledger
from eipack_ray.messages import (
    LEASE,
    POOL,
    RELEASE,
    RENEW,
    Ask,
    Pool,
    Release,
    Renewal,
    Renewed,
    read,
)

if TYPE_CHECKING:
    from eipack_eia.endpoint import Endpoint

_LARGEST_BODY: Final = 256 << 10
_PATIENCE_S: Final = 5.0


class Desk:
    """Serve a ledger on a socket that listens already, until `stop`."""

    def __init__(self, ledger: Ledger, access: Access, listening: socket, where: Endpoint) -> None:
        self._ledger = ledger
        self._access = access
        self._where = where
        self._server = _Server(listening, self)
        self._routes: Mapping[tuple[str, str], Callable[[Any], Any]] = {
            ("POST", LEASE): lambda said: ledger.lend(read(said, Ask)),
            ("POST", RENEW): self._renew,
            ("POST", RELEASE): self._release,
            ("GET", POOL): lambda _: self.describe(),
        }
        self._thread = Thread(target=self._server.serve_forever, name="desk", daemon=True)
        self._thread.start()

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The TLS side of the server, if it has one."""
        return self._access.tls

    def answer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Answer one request: status, headers and body."""
        try:
            if not self._access.host_allowed(headers.get("Host")):
                raise ProtocolError("the Host header does not name this registry")
            self._access.demand(Rights.INFER, headers.get("Authorization"))
            route = self._routes.get((method, path.lstrip("/")))
            if route is None:
                raise ProtocolError(f"a pool's registry has nothing at {method} {path[:80]}")
            return 200, {}, msgspec.json.encode(route(_decoded(body)))
        except EipackError as error:
            return status_of(error), {KIND_HEADER: type(error).__name__}, error_body(str(error))

    def describe(self) -> Pool:
        """Describe the pool."""
        ledger, where = self._ledger, str(self._where)
        return Pool(ledger.pool, where, ledger.lease_s, ledger.shared, ledger.members())

    def _renew(self, said: Any) -> Renewed:
        held = read(said, Renewal).leases
        return Renewed({one.lease: self._ledger.renew(one) for one in held})

    def _release(self, said: Any) -> None:
        for lease in read(said, Release).leases:
            self._ledger.release(lease)

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body) if body else None
    except msgspec.MsgspecError as error:
        raise ProtocolError("the request is not JSON") from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listening: socket, desk: Desk) -> None:
        super().__init__(listening.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.desk = desk

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands on the thread of the connection, which a slow client may hold up."""
        if self.desk.tls is not None:
            request = secured(self.desk.tls, request, _PATIENCE_S)
        try:
            super().finish_request(request, client_address)
        finally:
            request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up; what goes wrong here is answered."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE_S

    def do_GET(self) -> None:
        """Answer a question."""
        self._answer(b"")

    def do_POST(self) -> None:
        """Answer a request."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or int(length) > _LARGEST_BODY:
            self.send_error(400)
            return
        self._answer(self.rfile.read(int(length)))

    def _answer(self, body: bytes) -> None:
        headers = dict(self.headers.items())
        status, more, data = self.server.desk.answer(self.command, self.path, headers, body)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | more).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's own name
        """Keep no log: tokens and leases are in requests."""
