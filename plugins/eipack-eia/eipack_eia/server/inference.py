"""Inference requests: from bytes to a job, and from its outputs to buffers.

Requests of one client mostly differ in the bytes of their tensors alone. What was found out of
the first is kept in a `Prepared`, with the tensors as views into the connection's buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

import msgspec
from attrs import define
from torch import Tensor

from eipack_eia import calls, oip
from eipack_eia.server.batching import Joins, joins_of
from eipack_eia.server.http import Buffer, Request, Response
from eipack_eia.server.models import Model
from eipack_eia.server.scheduler import ClientGone, Job, Scheduler

TIMING_HEADER: Final = "Server-Timing"
_ALIGNMENT: Final = 64
_LONGEST_KEPT: Final = 16 << 10


@define(eq=False)
class Prepared:
    """A request without the bytes of its tensors, ready to be run again.

    Requests that begin with `prefix` and have `total` bytes are the same request for other
    tensors. `generation` is that of the buffer that `leaves` are views of.
    """

    model: Model
    leaves: tuple[Tensor, ...]
    outputs: calls.Wanted
    timeout_ns: int | None
    id: str | None
    prefix: bytes
    total: int
    joins: Joins | None = None
    generation: int = 0
    _shapes: tuple[Any, ...] = ()
    _before: bytes = b""
    _after: bytes = b""

    def answer(self, results: Sequence[Tensor], timing: str) -> list[Buffer]:
        """Return the whole answer, header included, with the tensors' own memory."""
        tensors = [results[index] for index, _, _ in self.outputs]
        if not all(binary for _, _, binary in self.outputs):
            return self._mixed(tensors, timing)
        shapes = tuple([(tensor.shape, tensor.dtype) for tensor in tensors])
        if shapes != self._shapes:
            self._lay_out(tensors, timing)
            self._shapes = shapes
        head = b"".join((self._before, timing.encode(), self._after))
        return [head, *map(oip.raw, tensors)]

    def _document(self, tensors: Sequence[Tensor]) -> dict[str, Any]:
        return calls.answer(self.model.name, self.id, self.outputs, tensors)

    def _lay_out(self, tensors: Sequence[Tensor], timing: str) -> None:
        """Pad the JSON until the first tensor is aligned behind the header."""
        document = self._document(tensors)
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        length = len(msgspec.json.encode(document))
        for padding in range(_ALIGNMENT):
            before = (
                "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                f"Inference-Header-Content-Length: {length + padding}\r\n"
                f"Content-Length: {length + padding + size}\r\n{TIMING_HEADER}: "
            ).encode()
            data = b"\r\n\r\n" + msgspec.json.encode(document) + b" " * padding
            if not (len(before) + len(timing) + len(data)) % _ALIGNMENT:
                break
        self._before, self._after = before, data

    def _mixed(self, tensors: Sequence[Tensor], timing: str) -> list[Buffer]:
        data = msgspec.json.encode(self._document(tensors))
        binary = [
            oip.raw(tensor)
            for (_, _, wanted), tensor in zip(self.outputs, tensors, strict=True)
            if wanted
        ]
        headers = {TIMING_HEADER: timing}
        kind = "application/json"
        if binary:
            headers["Inference-Header-Content-Length"] = str(len(data))
            kind = "application/octet-stream"
        response = Response(200, [data, *binary], headers, kind)
        return [response.head(keep_alive=True), *response.body]


def prepare(request: Request, model: Model) -> Prepared:
    """Read an inference request.

    Raises:
        ProtocolError: It breaks the protocol.
        SignatureMismatch: It names other inputs or outputs than the model has.
    """
    size = calls.json_size(request.header(oip.JSON_LENGTH_HEADER), len(request.body))
    begin = request.head_size + size
    document = oip.decode_request(request.body[:size])
    signature = model.session.signature
    given = calls.given(document, request.memory, begin, signature, model.name)
    repeatable = given.viewed and begin <= _LONGEST_KEPT
    timeout = document.parameters.timeout
    return Prepared(
        model=model,
        leaves=given.leaves,
        outputs=calls.wanted_outputs(document, signature),
        timeout_ns=None if timeout is None else max(timeout, 0) * 1000,
        id=document.id,
        prefix=request.memory[:begin].tobytes() if repeatable else b"",
        total=len(request.memory),
        joins=joins_of(signature, given.leaves) if model.sharing.open else None,
    )


def infer(
    prepared: Prepared,
    scheduler: Scheduler,
    client: Hashable,
    began_ns: int,
    received_ns: int,
    alive: Callable[[], bool],
) -> list[Buffer]:
    """Run a request and return the answer's buffers.

    Raises:
        EipackError: It could not be run, or failed.
        ClientGone: Nobody is there any more to be answered.
    """
    timeout = prepared.timeout_ns
    job = Job(prepared.model, prepared.leaves, client, received_ns, alive=alive)
    if timeout is not None:
        job.deadline_ns = began_ns + timeout
    if prepared.joins is not None:
        job.joins, job.rows = prepared.joins, prepared.joins.rows
    statistics = prepared.model.statistics
    try:
        results = scheduler.run(job)
    except ClientGone:
        raise
    except BaseException:
        statistics.count_failure()
        raise
    queue, compute = job.started_ns - received_ns, job.ended_ns - job.started_ns
    transfer = received_ns - began_ns
    statistics.count(queue, compute, transfer, job.rows)
    timing = (
        f"queue;dur={queue / 1e6:011.4f}, compute;dur={compute / 1e6:011.4f}, "
        f"transfer;dur={transfer / 1e6:011.4f}"
    )
    return prepared.answer(results, timing)
