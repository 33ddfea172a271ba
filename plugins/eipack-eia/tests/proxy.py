"""A TCP proxy that does to a connection what networks do: delay, throttle, cut, lose, spoil."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import Final, Self

from attrs import define, evolve, field, frozen
from eipack_eia.endpoint import Endpoint

_PIECE: Final = 16 << 10
_PATIENCE_S: Final = 0.05


@frozen
class Fault:
    """What happens to bytes in one direction; positions count from when the fault was set.

    A cut and a flipped byte happen once, on whichever connection gets there first.
    """

    delay_s: float = 0.0
    bytes_per_s: float | None = None
    cut_after: int | None = None
    swallow_after: int | None = None
    flip_at: int | None = None


@define(eq=False)
class Direction:
    """One of the two ways through the proxy, over all of its connections."""

    passed: int = 0
    """How many bytes have come through in all."""
    happened: Event = field(factory=Event)
    """Set when a cut, a flipped byte or a swallowed piece has come to pass."""
    _fault: Fault = Fault()
    _position: int = 0

    def suffer(self, fault: Fault) -> None:
        """Do this to the bytes from now on."""
        self.happened.clear()
        self._position, self._fault = 0, fault

    def heal(self) -> None:
        """Let everything through again."""
        self.suffer(Fault())

    def carry(self, data: bytearray, send: Callable[[bytearray], object]) -> bool:
        """Pass bytes on as the fault has it; tell whether the connection may go on."""
        fault, begin = self._fault, self._position
        self._position = end = begin + len(data)
        if fault.delay_s:
            time.sleep(fault.delay_s)
        if fault.bytes_per_s is not None:
            time.sleep(len(data) / fault.bytes_per_s)
        if fault.flip_at is not None and begin <= fault.flip_at < end:
            data[fault.flip_at - begin] ^= 0x10
            self._once(evolve(fault, flip_at=None))
        if fault.swallow_after is not None and end > fault.swallow_after:
            del data[max(fault.swallow_after - begin, 0) :]
            self.happened.set()
        cut = fault.cut_after is not None and end >= fault.cut_after
        if cut:
            del data[(fault.cut_after or 0) - begin :]
            self._once(evolve(fault, cut_after=None))
        self.passed += len(data)
        send(data)
        return not cut

    def _once(self, rest: Fault) -> None:
        self._fault = rest
        self.happened.set()


class Proxy:
    """Pass connections on to an endpoint, and do to them what the two directions say."""

    def __init__(self, upstream: Endpoint) -> None:
        self.to_server = Direction()
        self.to_client = Direction()
        self._upstream = upstream
        self._stopping = Event()
        self._threads: list[Thread] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(_PATIENCE_S)

    @property
    def endpoint(self) -> Endpoint:
        """Where clients connect, in the scheme of what lies behind."""
        return evolve(self._upstream, port=self._listening.getsockname()[1])

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._listening.close()

    def _start(self, work: Callable[..., None], *given: object) -> None:
        thread = Thread(target=work, args=given, name="proxy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = self._listening.accept()
            except TimeoutError:
                continue
            try:
                server = socket.create_connection((self._upstream.host, self._upstream.port))
            except OSError:
                client.close()
                continue
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                one.settimeout(_PATIENCE_S)
            self._start(self._serve, client, server)

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            back = Thread(target=self._pump, args=(server, client, self.to_client), daemon=True)
            back.start()
            self._pump(client, server, self.to_server)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket, way: Direction) -> None:
        def send(data: bytearray) -> None:
            view = memoryview(data)
            while view and not self._stopping.is_set():
                with suppress(TimeoutError):
                    view = view[sink.send(view) :]

        try:
            while data := self._received(source):
                if not way.carry(data, send):
                    break
            else:
                sink.shutdown(socket.SHUT_WR)  # the other way may still have something to say
                return
        except OSError:
            pass
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _received(self, source: socket.socket) -> bytearray:
        """Return what has come, nothing when the sender is done or the proxy ends."""
        buffer = bytearray(_PIECE)
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                count = source.recv_into(buffer)
                return buffer[:count]
        return bytearray()
