"""A bare TCP echo: blocking sockets, `sendmsg` and `recv_into`, a thread a connection.

A request says nothing of itself: whoever connects first sends how many bytes a request has.
With `awake` both sides wait for up to 200 µs without sleeping, and receive at most 128 KB in a
call, as eipack's own do.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
from collections.abc import Callable
from threading import Thread
from time import perf_counter_ns

from benchmarks.rivals.payload import ANSWER_BYTES

_AWAKE_NS = 200_000
_PIECE = 128 << 10
_COUNT = struct.Struct("<Q")


def serve(awake: str) -> None:
    """Listen at a free port, say which, and answer until ended."""
    listening = socket.create_server(("127.0.0.1", 0))
    print(json.dumps({"port": listening.getsockname()[1]}), flush=True)
    while True:
        connection, _ = listening.accept()
        Thread(target=_answer, args=(connection, awake == "awake"), daemon=True).start()


def caller(port: int, data: memoryview, *, awake: bool) -> Callable[[], int]:
    """Connect; return what sends the data, and returns how many bytes came back."""
    connection = socket.create_connection(("127.0.0.1", port))
    _at_once(connection)
    connection.sendall(_COUNT.pack(data.nbytes))
    memory, wait = memoryview(bytearray(ANSWER_BYTES)), _waiting(connection, awake=awake)
    piece = _piece(awake=awake)

    def call() -> int:
        _send(connection, data)
        wait()
        return _receive(connection, memory, piece)

    return call


def _answer(connection: socket.socket, awake: bool) -> None:  # noqa: FBT001 - a thread's argument
    _at_once(connection)
    (size,) = _COUNT.unpack(connection.recv(_COUNT.size, socket.MSG_WAITALL))
    memory, answer = memoryview(bytearray(size)), memoryview(bytes(ANSWER_BYTES))
    wait, piece = _waiting(connection, awake=awake), _piece(awake=awake)
    while wait() or _receive(connection, memory, piece):
        _send(connection, answer)


def _at_once(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _send(connection: socket.socket, data: memoryview) -> None:
    sent = connection.sendmsg([data])
    if sent < data.nbytes:
        connection.sendall(data.cast("B")[sent:])


def _receive(connection: socket.socket, memory: memoryview, piece: int) -> int:
    """Fill memory; return how much came before the other side hung up, if it did, as 0."""
    filled = connection.recv_into(memory[:piece])
    while 0 < filled < memory.nbytes:
        received = connection.recv_into(memory[filled : filled + piece])
        filled = filled + received if received else 0
    return filled


def _piece(*, awake: bool) -> int:
    return _PIECE if awake else sys.maxsize


def _waiting(connection: socket.socket, *, awake: bool) -> Callable[[], None]:
    """Return what waits before something is received: not at all, if receiving shall sleep."""
    if not awake:
        return lambda: None
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)

    def wait() -> None:
        until = perf_counter_ns() + _AWAKE_NS
        while not poll.poll(0) and perf_counter_ns() < until:
            pass

    return wait


if __name__ == "__main__":
    serve(*sys.argv[1:])
