"""One connection: its thread receives, runs and answers one request after the other."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence
from threading import Event
from time import perf_counter_ns
from typing import Protocol

import torch

from eipack.errors import EipackError, ExecutionFailed
from eipack_eia.faults import KIND_HEADER, error_body, status_of
from eipack_eia.server.access import Limits
from eipack_eia.server.http import (
    Buffer,
    ConnectionEnded,
    Receiver,
    Request,
    Response,
    be_patient,
    send,
)
from eipack_eia.server.inference import Prepared, infer
from eipack_eia.server.scheduler import ClientGone, Scheduler


class App(Protocol):
    """What answers requests."""

    @property
    def scheduler(self) -> Scheduler:
        """Who runs jobs."""

    def answer(self, request: Request) -> Response | Prepared:
        """Answer a request, or say how it is to be run."""


def converse(
    connection: socket.socket,
    peer: str,
    app: App,
    limits: Limits,
    stopping: Event,
    *,
    pinned: bool = False,
) -> None:
    """Answer requests until the client hangs up or the accelerator stops."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    be_patient(connection)
    try:
        with torch.inference_mode():  # once for all calls that this thread runs
            _Conversation(connection, peer, app, limits, stopping, pinned).run()
    except (ConnectionEnded, ClientGone, OSError):
        return
    finally:
        app.scheduler.leave()


class _Conversation:
    def __init__(
        self,
        connection: socket.socket,
        peer: str,
        app: App,
        limits: Limits,
        stopping: Event,
        pinned: bool,  # noqa: FBT001 - private
    ) -> None:
        self._connection = connection
        self._client = peer
        self._app = app
        self._stopping = stopping
        self._receiver = Receiver(connection, limits, pinned=pinned)
        self._prepared: Prepared | None = None
        self._poll = select.poll()
        self._poll.register(connection.fileno(), select.POLLRDHUP | select.POLLHUP)

    def run(self) -> None:
        """Answer until something ends it."""
        receiver = self._receiver
        while not self._stopping.is_set():
            began = receiver.wait(self._stopping)
            prepared = self._prepared
            try:
                if (
                    prepared is not None
                    and prepared.generation == receiver.generation
                    and not prepared.model.gone
                    and receiver.repeats(prepared.prefix, prepared.total, began)
                ):
                    total = prepared.total
                    keep_alive, buffers = True, self._infer(prepared, began)
                else:
                    self._prepared = None
                    request = receiver.request(began)
                    total = request.head_size + len(request.body)
                    keep_alive, buffers = self._answer(request)
            except EipackError as error:  # the request itself cannot be read to its end
                self._send_error(error)
                return
            send(self._connection, buffers)
            receiver.done(total)
            if not keep_alive:
                return

    def _answer(self, request: Request) -> tuple[bool, Sequence[Buffer]]:
        answer = translated(lambda: self._app.answer(request))
        if isinstance(answer, Response):
            head = answer.head(keep_alive=request.keep_alive)
            return request.keep_alive, [head, *answer.body]
        self._client = request.header("eipack-client") or self._client
        if answer.prefix and request.keep_alive:
            answer.generation = self._receiver.generation
            self._prepared = answer
        return request.keep_alive, self._infer(answer, request.began_ns)

    def _infer(self, prepared: Prepared, began_ns: int) -> Sequence[Buffer]:
        received = perf_counter_ns()
        scheduler = self._app.scheduler
        try:
            return infer(prepared, scheduler, self._client, began_ns, received, self._alive)
        except EipackError as error:
            self._prepared = None
            answer = response_of(error)
            return [answer.head(keep_alive=True), *answer.body]

    def _alive(self) -> bool:
        return not self._poll.poll(0)

    def _send_error(self, error: EipackError) -> None:
        answer = response_of(error)
        send(self._connection, [answer.head(keep_alive=False), *answer.body])
        # what the client still sends is thrown away, or it would lose the answer to a reset
        self._connection.shutdown(socket.SHUT_WR)
        scratch = bytearray(64 << 10)
        for _ in range(64):
            if not self._connection.recv_into(scratch):
                return


def translated(answer: Callable[[], Response | Prepared]) -> Response | Prepared:
    """Turn whatever goes wrong into an answer that says so."""
    try:
        return answer()
    except EipackError as error:
        return response_of(error)
    except Exception as error:  # noqa: BLE001 - the accelerator lives on
        return response_of(ExecutionFailed(f"the accelerator failed: {type(error).__name__}"))


def response_of(error: EipackError) -> Response:
    """Return an error as the answer that carries it."""
    status = status_of(error)
    headers = {KIND_HEADER: type(error).__name__}
    return Response(status, [error_body(str(error))], headers)
