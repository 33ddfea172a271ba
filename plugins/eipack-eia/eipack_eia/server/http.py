"""HTTP/1.1 on blocking sockets: one request at a time, received into one buffer that is kept.

httptools reads the header alone; a request that begins with the very bytes of the one before is
not read at all, only its tensors are new.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from threading import Lock
from time import perf_counter_ns
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import httptools
import torch
from attrs import define, field, frozen

from eipack.errors import DeadlineExceeded, ProtocolError
from eipack_eia.server.access import Limits

Buffer = bytes | bytearray | memoryview

_FIRST_BYTES: Final = 64 << 10
AWAKE_NS: Final = 200_000
"""For how long at most a thread waits without sleeping."""

AT_ONCE: Final = 128 << 10
"""Bytes to receive in one call: by larger ones, data that has come waits while the sender sends
more, and both leave the caches; 602 KB then take two to three times as long on loopback."""

_watching: Final = Lock()
_KEPT_BYTES: Final = 4 << 20
_SEND_S: Final = 60
_POLL_S: Final = 1.0
"""How often a thread that waits for a client looks whether the accelerator stops."""


class ConnectionEnded(Exception):
    """The other side has hung up, has been quiet for too long, or shall be let go."""


@frozen
class Request:
    """One request; `memory`, its header first, is the connection's own until the next one."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    memory: memoryview
    head_size: int
    keep_alive: bool
    began_ns: int

    @property
    def body(self) -> memoryview:
        """What is behind the header."""
        return self.memory[self.head_size :]

    def header(self, name: str) -> str | None:
        """Return a header by its name in small letters."""
        return self.headers.get(name)


@frozen
class Response:
    """An answer: what follows the header, and headers beside the length."""

    status: int = 200
    body: Sequence[Buffer] = ()
    headers: Mapping[str, str] = field(factory=dict)
    content_type: str = "application/json"

    def head(self, *, keep_alive: bool) -> bytes:
        """Return status line and headers."""
        size = sum(_nbytes(part) for part in self.body)
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {size}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        if not keep_alive:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@define
class _Head:
    """What httptools tells of a header."""

    url: bytes = b""
    headers: dict[str, str] = field(factory=dict)
    method: str = ""
    keep_alive: bool = True
    complete: bool = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        if key in self.headers and key in _SINGLE:
            raise ProtocolError(f"the header {key} is there twice")
        self.headers[key] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        self.complete = True


_SINGLE: Final = {"content-length", "host", "authorization", "inference-header-content-length"}


class Receiver:
    """The receiving side of a connection, its buffer and what it got last."""

    def __init__(self, connection: socket.socket, limits: Limits, *, pinned: bool = False) -> None:
        self._socket = connection
        self._limits = limits
        self._pinned = pinned
        self._filled = 0
        self._awake = False
        self._poll = select.poll()
        self._poll.register(connection.fileno(), select.POLLIN)
        self._make(_FIRST_BYTES)
        self.generation = 0
        """How often the buffer has changed; views into an earlier one are stale."""

    def _make(self, size: int) -> None:
        self._tensor = torch.empty(size, dtype=torch.uint8, pin_memory=self._pinned)
        self.memory: memoryview = self._tensor.numpy().data

    def wait(self, stopping: Any) -> int:
        """Wait for the first bytes of a request; return the time when they came, in ns.

        Raises:
            ConnectionEnded: The client has gone, or was quiet for longer than `idle_s`.
        """
        if self._filled:
            return perf_counter_ns()
        if self._awake:
            self._watch(since := perf_counter_ns())
        else:
            since = perf_counter_ns()
        while True:
            try:
                received = self._socket.recv_into(self.memory[:AT_ONCE])
            except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
                if stopping.is_set() or (perf_counter_ns() - since) / 1e9 > self._limits.idle_s:
                    raise ConnectionEnded from None
                self._shrink()
                continue
            except OSError as error:
                raise ConnectionEnded from error
            if not received:
                raise ConnectionEnded
            self._filled = received
            now = perf_counter_ns()
            self._awake = now - since < AWAKE_NS
            return now

    def _watch(self, since: int) -> None:
        """Wait without sleeping, for a while: to sleep and wake may take longer than a call.

        One thread of the process at most does so, and none while others have work to do.
        """
        if not _watching.acquire(blocking=False):
            return
        try:
            until, poll = since + AWAKE_NS, self._poll.poll
            while not poll(0) and perf_counter_ns() < until:
                pass
        finally:
            _watching.release()

    def repeats(self, prefix: bytes, total: int, began_ns: int) -> bool:
        """Tell whether the request begins with these bytes, and receive the rest of it if so."""
        size = len(prefix)
        if self._filled < size or self.memory[:size].tobytes() != prefix:
            return False
        if self._filled < total:
            self._fill(total, began_ns)
        return True

    def request(self, began_ns: int) -> Request:
        """Receive and read a whole request.

        Raises:
            ProtocolError: It is no HTTP/1.1, or larger than may be.
            DeadlineExceeded: It took longer than `receive_s`.
            ConnectionEnded: The client has gone in the middle of it.
        """
        end = self._head_end(began_ns)
        head = _parse(self.memory[:end].tobytes())
        size = self._body_size(head)
        total = end + size
        if total > len(self.memory):
            self._grow(total)
        if head.headers.get("expect", "").lower() == "100-continue" and self._filled < total:
            send(self._socket, [b"HTTP/1.1 100 Continue\r\n\r\n"])
        if self._filled < total:
            self._fill(total, began_ns)
        try:
            url = urlsplit(head.url.decode("ascii"))
        except (UnicodeDecodeError, ValueError) as error:
            raise ProtocolError("the request's address cannot be read") from error
        return Request(
            method=head.method,
            path=unquote(url.path).strip("/"),
            query=dict(parse_qsl(url.query)),
            headers=head.headers,
            memory=self.memory[:total],
            head_size=end,
            keep_alive=head.keep_alive,
            began_ns=began_ns,
        )

    def done(self, total: int) -> None:
        """Let go of a request; keep what came behind it."""
        rest = self._filled - total
        if rest > 0:
            self.memory[:rest] = self.memory[total : self._filled].tobytes()
        self._filled = max(rest, 0)

    def _head_end(self, began_ns: int) -> int:
        searched = 0
        while True:
            found = self.memory[searched : self._filled].tobytes().find(b"\r\n\r\n")
            if found >= 0:
                end = searched + found + 4
                if end > self._limits.header_bytes:
                    break
                return end
            if not 65 <= self.memory[0] <= 90:
                raise ProtocolError("the request is no HTTP/1.1; is TLS spoken to a port without?")
            searched = max(self._filled - 3, 0)
            if self._filled >= min(self._limits.header_bytes, len(self.memory)):
                break
            self._fill(self._filled + 1, began_ns, len(self.memory))
        raise ProtocolError(f"the header has more than {self._limits.header_bytes} bytes")

    def _body_size(self, head: _Head) -> int:
        if "transfer-encoding" in head.headers:
            raise ProtocolError("a body needs a Content-Length here; it came chunked")
        if head.headers.get("content-encoding", "identity") != "identity":
            raise ProtocolError("compressed bodies are not accepted here")
        text = head.headers.get("content-length", "0")
        if not (text.isascii() and text.isdigit()) or len(text) > 20:
            raise ProtocolError(f"Content-Length {text[:40]!r} is no number")
        size = int(text)
        if size > self._limits.body_bytes:
            raise ProtocolError(
                f"the body has {size} bytes, this accelerator takes {self._limits.body_bytes}"
            )
        return size

    def _grow(self, size: int) -> None:
        held = self.memory[: self._filled].tobytes()
        self._make(size)
        self.memory[: len(held)] = held
        self.generation += 1

    def _shrink(self) -> None:
        """Give a large buffer back while the client is quiet."""
        if len(self.memory) > _KEPT_BYTES:
            self._make(_FIRST_BYTES)
            self.generation += 1

    def _fill(self, wanted: int, began_ns: int, most: int | None = None) -> None:
        """Receive until `wanted` bytes are there, and no more than `most`."""
        limit = began_ns + int(self._limits.receive_s * 1e9)
        while self._filled < wanted:
            try:
                end = min(wanted if most is None else most, self._filled + AT_ONCE)
                received = self._socket.recv_into(self.memory[self._filled : end])
            except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
                received = -1
            except OSError as error:
                raise ConnectionEnded from error
            if not received:
                raise ConnectionEnded
            self._filled += max(received, 0)
            # a header comes in pieces, and each is wanted for itself
            if (self._filled < wanted or most is not None) and perf_counter_ns() > limit:
                raise DeadlineExceeded(
                    f"the request did not come within {self._limits.receive_s:g} s"
                )


def _parse(data: bytes) -> _Head:
    head = _Head()
    parser = httptools.HttpRequestParser(head)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade as error:
        raise ProtocolError("this accelerator speaks HTTP/1.1 alone") from error
    except httptools.HttpParserError as error:
        if isinstance(error.__context__, ProtocolError):
            raise error.__context__ from error
        raise ProtocolError(f"the request is no HTTP/1.1: {error}") from error
    if not head.complete:
        raise ProtocolError("the request's header is not whole")
    head.method = parser.get_method().decode("ascii")
    connection = head.headers.get("connection", "").lower()  # httptools forgets it by now
    old = parser.get_http_version() == "1.0"
    head.keep_alive = "keep-alive" in connection if old else "close" not in connection
    return head


def _nbytes(buffer: Buffer) -> int:
    return buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)


def be_patient(connection: socket.socket, seconds: float = _POLL_S) -> None:
    """Let receiving return now and then, without a system call more for each."""
    if isinstance(connection, ssl.SSLSocket):
        connection.settimeout(seconds)
        return
    whole = int(seconds)
    interval = struct.pack("ll", whole, int((seconds - whole) * 1e6))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_S, 0))


def send(connection: socket.socket, buffers: Sequence[Buffer]) -> None:
    """Send buffers as one stream; TLS has no `sendmsg`, and gets them one after the other.

    Raises:
        OSError: The connection is broken.
    """
    if isinstance(connection, ssl.SSLSocket):
        patience = connection.gettimeout()
        connection.settimeout(_SEND_S)
        for buffer in buffers:
            if _nbytes(buffer):  # it cannot send a view with a zero in its shape
                connection.sendall(buffer)
        connection.settimeout(patience)
        return
    sent = connection.sendmsg(buffers)
    left = sum(map(_nbytes, buffers)) - sent
    if left:
        _send_rest(connection, buffers, sent)


def _send_rest(connection: socket.socket, buffers: Sequence[Buffer], sent: int) -> None:
    for buffer in buffers:
        size = _nbytes(buffer)
        if sent < size:
            connection.sendall(memoryview(buffer).cast("B")[sent:])
        sent = max(sent - size, 0)
