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

from eipack.errors import ProtocolError, SignatureMismatch
from eipack.signature import Signature
from eipack_eia import oip
from eipack_eia.server.batching import Joins, joins_of
from eipack_eia.server.http import Buffer, Request, Response
from eipack_eia.server.models import Model
from eipack_eia.server.scheduler import ClientGone, Job, Scheduler

TIMING_HEADER: Final = "Server-Timing"
_ALIGNMENT: Final = 64
_LONGEST_KEPT: Final = 16 << 10
_VERSION: Final = "1"


@define(eq=False)
class Prepared:
    """A request without the bytes of its tensors, ready to be run again.

    Requests that begin with `prefix` and have `total` bytes are the same request for other
    tensors. `generation` is that of the buffer that `leaves` are views of.
    """

    model: Model
    leaves: tuple[Tensor, ...]
    outputs: tuple[tuple[int, str, bool], ...]
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
        announced = [
            oip.announce(name, tensor) if binary else oip.as_json(name, tensor)
            for (_, name, binary), tensor in zip(self.outputs, tensors, strict=True)
        ]
        head = {"model_name": self.model.name, "model_version": _VERSION, "outputs": announced}
        return head if self.id is None else {"id": self.id, **head}

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
    size = _json_size(request)
    begin = request.head_size + size
    document = oip.decode_request(request.body[:size])
    found = oip.places(document.inputs, len(request.memory) - begin)
    tensors: dict[str, Tensor] = {}
    for one in document.inputs:
        if one.name in tensors:
            raise ProtocolError(f"input {one.name!r} is there twice")
        place = found.get(one.name)
        tensors[one.name] = (
            oip.from_json(one) if place is None else place.view(request.memory, begin)
        )
    signature = model.session.signature
    wanted = {spec.name for spec in signature.inputs}
    if set(tensors) != wanted:
        raise SignatureMismatch(
            f"inputs {', '.join(sorted(tensors))} were given; {model.name} takes "
            f"{', '.join(sorted(wanted))}"
        )
    all_views = len(found) == len(tensors) and all(at.lies_aligned(begin) for at in found.values())
    repeatable = all_views and begin <= _LONGEST_KEPT
    timeout = document.parameters.timeout
    leaves = tuple(tensors[spec.name] for spec in signature.inputs)
    return Prepared(
        model=model,
        leaves=leaves,
        outputs=_outputs(document, signature),
        timeout_ns=None if timeout is None else max(timeout, 0) * 1000,
        id=document.id,
        prefix=request.memory[:begin].tobytes() if repeatable else b"",
        total=len(request.memory),
        joins=joins_of(signature, leaves) if model.sharing.open else None,
    )


def _json_size(request: Request) -> int:
    text = request.header(oip.JSON_LENGTH_HEADER)
    if text is None:
        return len(request.body)
    number = text.isascii() and text.isdigit() and len(text) <= 20
    if not number or int(text) > len(request.body):
        raise ProtocolError(f"Inference-Header-Content-Length {text[:40]!r} is no length of JSON")
    return int(text)


def _outputs(document: oip.InferRequest, signature: Signature) -> tuple[tuple[int, str, bool], ...]:
    """Return position, name, and whether in binary, of each output that is wanted."""
    binary = bool(document.parameters.binary_data_output)
    names = [spec.name for spec in signature.outputs]
    if not document.outputs:
        return tuple((index, name, binary) for index, name in enumerate(names))
    wanted = []
    for one in document.outputs:
        if one.name not in names:
            raise SignatureMismatch(f"there is no output {one.name!r}, but {', '.join(names)}")
        if one.parameters.classification:
            raise ProtocolError("the classification extension is not offered here")
        own = one.parameters.binary_data
        wanted.append((names.index(one.name), one.name, binary if own is None else own))
    return tuple(wanted)


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
