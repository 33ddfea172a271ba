"""Connections of the data path: blocking sockets, one request at a time on each, kept open."""

from __future__ import annotations

import select
import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic, perf_counter_ns
from typing import Final, TypeVar

from eipack.errors import AcceleratorUnavailable, DeadlineExceeded, EipackError
from eipack_eia.credentials import Credentials, tls_error
from eipack_eia.endpoint import Endpoint

_Answer = TypeVar("_Answer")

_CONNECT_S: Final = 10.0
AWAKE_NS: Final = 200_000
"""For how long at most a thread waits without sleeping."""

AT_ONCE: Final = 128 << 10
"""Bytes to receive in one call; by larger ones they wait, and leave the caches."""

_LOST_MS: Final = 30_000
"""How long sent bytes may stay without an acknowledgement before the host counts as lost."""


class Wire:
    """A connected socket with the deadline of the call that uses it."""

    def __init__(
        self, endpoint: Endpoint, credentials: Credentials, deadline_s: float | None
    ) -> None:
        self.endpoint = endpoint
        self._deadline_s = deadline_s
        self._until = 0.0
        self._awake = False
        connecting = _CONNECT_S if deadline_s is None else min(_CONNECT_S, deadline_s)
        with _translated(endpoint, connecting):
            plain = socket.create_connection((endpoint.host, endpoint.port), connecting)
            self.socket: socket.socket = plain
            if endpoint.encrypted:
                context = credentials.context()
                self.socket = context.wrap_socket(plain, server_hostname=endpoint.host)
            self._set_up(deadline_s)
        self._poll = select.poll()
        self._poll.register(self.socket.fileno(), select.POLLIN | select.POLLRDHUP)

    def _set_up(self, deadline_s: float | None) -> None:
        connection = self.socket
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _LOST_MS)
        if isinstance(connection, ssl.SSLSocket):
            connection.settimeout(deadline_s)
            return
        connection.settimeout(None)
        if deadline_s is not None:  # by options, which cost a call nothing
            interval = struct.pack("ll", int(deadline_s), int(deadline_s % 1 * 1e6))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)

    @property
    def usable(self) -> bool:
        """Whether the other side has neither hung up nor said something unasked."""
        return not self._poll.poll(0)

    def send(self, buffers: Sequence[memoryview]) -> None:
        """Send buffers as one stream, and start the time of a call.

        Raises:
            OSError: The connection is broken.
        """
        if self._deadline_s is not None:
            self._until = monotonic() + self._deadline_s
        if isinstance(self.socket, ssl.SSLSocket):
            for buffer in buffers:
                if buffer.nbytes:  # it cannot send a view with a zero in its shape
                    self.socket.sendall(buffer)
            return
        sent = self.socket.sendmsg(buffers)
        for buffer in buffers:
            size = buffer.nbytes
            while sent < size:  # sendall would go on for as long as a few bytes leave now and then
                if self._deadline_s is not None and monotonic() > self._until:
                    raise TimeoutError
                sent += self.socket.send(buffer.cast("B")[sent:])
            sent = max(sent - size, 0)

    def wait(self) -> None:
        """Wait for the first bytes of an answer, awake if the last one came at once.

        To put a processor to sleep and wake it again may take longer than the answer itself.

        Raises:
            TimeoutError: Its time is over.
        """
        began = perf_counter_ns()
        if self._awake:
            until, poll = began + AWAKE_NS, self._poll.poll
            while not poll(0) and perf_counter_ns() < until:
                pass
        else:
            patience = None if self._deadline_s is None else self._deadline_s * 1000
            if not self._poll.poll(patience):
                raise TimeoutError
        self._awake = perf_counter_ns() - began < AWAKE_NS

    def receive(self, memory: memoryview, filled: int, wanted: int) -> int:
        """Receive until `wanted` bytes are there; return how many are.

        Raises:
            OSError: The connection broke, or its time is over.
        """
        while filled < wanted:
            received = self.socket.recv_into(memory[filled : filled + AT_ONCE])
            if not received:
                raise ConnectionResetError("it hung up")
            filled += received
            if filled < wanted and self._deadline_s is not None and monotonic() > self._until:
                raise TimeoutError
        return filled

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self.socket.close()


@contextmanager
def _translated(endpoint: Endpoint, seconds: float | None) -> Iterator[None]:
    """Translate what connecting raises."""
    try:
        yield
    except OSError as error:
        if isinstance(error, EipackError):
            raise
        raise _translation(error, endpoint, seconds, sent=False) from error


def _translation(
    error: OSError, endpoint: Endpoint, seconds: float | None, *, sent: bool
) -> EipackError:
    """Return what an error of sockets or TLS means; `sent` is what it says of the request."""
    if isinstance(error, TimeoutError | BlockingIOError | ssl.SSLWantReadError):
        limit = "" if seconds is None else f" within {seconds:g} s"
        return DeadlineExceeded(f"no answer from the accelerator at {endpoint}{limit}")
    if isinstance(error, ssl.SSLError):
        return tls_error(error, endpoint)
    reason = error.strerror or error
    return AcceleratorUnavailable(
        f"the accelerator at {endpoint} is not there, or was lost: {reason}", sent=sent
    )


class Pool:
    """Idle connections to one endpoint; safe between threads."""

    def __init__(
        self, endpoint: Endpoint, credentials: Credentials, deadline_s: float | None
    ) -> None:
        self.endpoint = endpoint
        self._credentials = credentials
        self._deadline_s = deadline_s
        self._idle: list[Wire] = []
        self._closed = False

    def exchange(self, talk: Callable[[Wire], _Answer]) -> _Answer:
        """Let a function talk over a connection, which is kept if that goes well.

        Raises:
            AcceleratorUnavailable: There is no accelerator, or it was lost.
            DeadlineExceeded: No answer came in time.
        """
        wire = self._take()
        try:
            answer = talk(wire)
        except BaseException as error:
            wire.close()  # what it would bring next belongs to this call
            if isinstance(error, OSError) and not isinstance(error, EipackError):
                raise _translation(error, self.endpoint, self._deadline_s, sent=True) from error
            raise
        self._idle.append(wire)
        if self._closed:
            self.close()
        return answer

    def _take(self) -> Wire:
        while True:
            try:
                wire = self._idle.pop()
            except IndexError:
                return Wire(self.endpoint, self._credentials, self._deadline_s)
            if wire.usable:
                return wire
            wire.close()

    def close(self) -> None:
        """Hang up on every idle connection; those in use hang up when they are done."""
        self._closed = True
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def forget(self) -> None:
        """Leave the sockets of a parent process alone, in a forked child."""
        self._idle = []
