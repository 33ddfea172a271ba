"""One inference over a connection: requests that are laid out once, answers read in place."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter_ns
from typing import Any, Final

import httptools
import msgspec
import torch
from attrs import define, frozen
from torch import Tensor

from eipack.errors import ProtocolError
from eipack.signature import Signature
from eipack_eia import oip
from eipack_eia.client.connection import Wire
from eipack_eia.faults import KIND_HEADER, error_from

_ALIGNMENT: Final = 64
_FIRST_BYTES: Final = 16 << 10
_LARGEST_HEADER: Final = 64 << 10


@frozen
class Timing:
    """Where the time of one call went, in nanoseconds; the server's part is as it says."""

    total_ns: int
    serialise_ns: int
    server: bytes

    def split_ms(self) -> dict[str, float]:
        """Return serialise, network, queue, compute and transfer in milliseconds."""
        said = {"queue": 0.0, "compute": 0.0, "transfer": 0.0}
        for part in self.server.decode("latin-1").split(","):
            name, _, duration = part.strip().partition(";dur=")
            if name in said:
                said[name] = float(duration or 0)
        serialise = self.serialise_ns / 1e6
        network = self.total_ns / 1e6 - serialise - said["queue"] - said["compute"]
        return {"serialise_ms": serialise, "network_ms": max(network, 0.0)} | {
            f"{name}_ms": value for name, value in said.items() if name != "transfer"
        }


@define(eq=False)
class Layout:
    """A request for inputs of certain shapes: all of it but the tensors' bytes.

    Once an answer has come, the next one is expected to differ in its timing and tensors alone.
    """

    prefix: memoryview
    _before: bytes = b""
    _after: bytes = b""
    _timing: slice = slice(0, 0)
    _places: tuple[oip.Place, ...] = ()
    _begin: int = 0
    _total: int = _FIRST_BYTES

    def ask(self, wire: Wire, inputs: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Timing]:
        """Send inputs and return outputs, which share memory with nothing but each other.

        Raises:
            OSError: The connection is broken.
            EipackError: What the accelerator answered.
        """
        began = perf_counter_ns()
        wire.send([self.prefix, *map(oip.raw, inputs)])
        sent = perf_counter_ns()
        memory = _memory(self._total)
        wire.wait()
        filled = wire.receive(memory, 0, 1)
        if not self._expected(memory, filled):
            outputs, server = self._read(wire, memory, filled)
        else:
            wire.receive(memory, filled, self._total)
            outputs = tuple([place.view(memory, self._begin) for place in self._places])
            server = memory[self._timing].tobytes()
        return outputs, Timing(perf_counter_ns() - began, sent - began, server)

    def _expected(self, memory: memoryview, filled: int) -> bool:
        timing = self._timing
        return (
            bool(self._before)
            and filled >= self._begin
            and memory[: timing.start].tobytes() == self._before
            and memory[timing.stop : self._begin].tobytes() == self._after
        )

    def _read(
        self, wire: Wire, memory: memoryview, filled: int
    ) -> tuple[tuple[Tensor, ...], bytes]:
        memory, filled, end = _head(wire, memory, filled)
        head = _Head.parse(memory[:end].tobytes())
        total = end + head.length
        if total > len(memory):
            larger = _memory(total)
            larger[:filled] = memory[:filled]
            memory = larger
        filled = wire.receive(memory, filled, total)
        if filled > total:
            raise ProtocolError(f"{wire.endpoint} sent more than it announced")
        body = memory[end:total]
        if head.status != 200:
            kind = head.headers.get(KIND_HEADER)
            raise error_from(head.status, kind, bytes(body), f"the accelerator at {wire.endpoint}")
        return self._outputs(memory, end, body, head)

    def _outputs(
        self, memory: memoryview, end: int, body: memoryview, head: _Head
    ) -> tuple[tuple[Tensor, ...], bytes]:
        size = head.number(oip.JSON_LENGTH_HEADER, len(body))
        if size > len(body):
            raise ProtocolError("the answer's JSON is longer than the answer")
        document = oip.decode_response(body[:size])
        found = oip.places(document.outputs, len(body) - size)
        outputs = self.order(document.outputs)
        timing = head.headers.get("server-timing", "").encode("latin-1")
        if len(found) == len(document.outputs):
            places = tuple([found[one.name] for one in outputs])
            self._remember(memory, end + size, len(body) - size, timing, places)
            return tuple([place.view(memory, end + size) for place in places]), timing
        tensors = [
            found[one.name].view(memory, end + size) if one.name in found else oip.from_json(one)
            for one in outputs
        ]
        return tuple(tensors), timing

    def order(self, outputs: list[oip.WireTensor]) -> list[oip.WireTensor]:
        """Return an answer's outputs in the order of the signature, which is eipack's own."""
        return outputs

    def _remember(
        self,
        memory: memoryview,
        begin: int,
        size: int,
        timing: bytes,
        places: tuple[oip.Place, ...],
    ) -> None:
        whole = memory[:begin].tobytes()
        at = whole.find(timing) if timing else begin
        self._begin, self._total, self._places = begin, begin + size, places
        self._timing = slice(at, at + len(timing))
        self._before, self._after = whole[:at], whole[at + len(timing) :]


def lay_out(
    host: str,
    path: str,
    signature: Signature,
    inputs: Sequence[Tensor],
    headers: dict[str, str],
    parameters: dict[str, Any],
) -> Layout:
    """Lay out a request; the JSON is padded until the first tensor is aligned behind it.

    Raises:
        UnsupportedModel: The protocol has no datatype for an input.
    """
    announced = [
        oip.announce(spec.name, tensor)
        for spec, tensor in zip(signature.inputs, inputs, strict=True)
    ]
    document = {"inputs": announced, "parameters": {"binary_data_output": True, **parameters}}
    size = sum(tensor.numel() * tensor.element_size() for tensor in inputs)
    return Layout(aligned(host, path, document, size, headers))


def aligned(
    host: str, path: str, document: dict[str, Any], size: int, headers: dict[str, str]
) -> memoryview:
    """Return a request but for its `size` bytes of tensors, padded so that they are aligned."""
    length = len(msgspec.json.encode(document))
    for padding in range(_ALIGNMENT):
        head = request_head(host, path, length + padding, length + padding + size, headers)
        if not (len(head) + length + padding) % _ALIGNMENT:
            break
    return memoryview(head + msgspec.json.encode(document) + b" " * padding)


def request_head(
    host: str, path: str, json: int | None, body: int, headers: dict[str, str]
) -> bytes:
    """Return the header of a request whose first `json` bytes, or all, are JSON."""
    kind = ["Content-Type: application/json"]
    if json is not None:
        kind = [
            "Content-Type: application/octet-stream",
            f"Inference-Header-Content-Length: {json}",
        ]
    lines = [
        f"POST /{path} HTTP/1.1",
        f"Host: {host}",
        f"Content-Length: {body}",
        *kind,
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _memory(size: int) -> memoryview:
    """Return fresh memory that is aligned for any dtype."""
    return torch.empty(size, dtype=torch.uint8).numpy().data


def _head(wire: Wire, memory: memoryview, filled: int) -> tuple[memoryview, int, int]:
    """Receive until the header is whole; return memory, bytes and where the header ends."""
    while True:
        found = memory[:filled].tobytes().find(b"\r\n\r\n")
        if found >= 0:
            return memory, filled, found + 4
        if filled >= _LARGEST_HEADER:
            raise ProtocolError(f"{wire.endpoint} sends a header without an end")
        if filled == len(memory):
            larger = _memory(2 * filled)
            larger[:filled] = memory
            memory = larger
        filled = wire.receive(memory, filled, filled + 1)


@define
class _Head:
    """What httptools tells of an answer's header."""

    headers: dict[str, str]
    status: int = 0

    @classmethod
    def parse(cls, data: bytes) -> _Head:
        head = cls({})
        parser = httptools.HttpResponseParser(head)
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise ProtocolError(f"the answer is no HTTP/1.1: {error}") from error
        head.status = parser.get_status_code()
        return head

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    @property
    def length(self) -> int:
        return self.number("content-length")

    def number(self, name: str, default: int | None = None) -> int:
        text = self.headers.get(name, "" if default is None else str(default))
        if not (text.isascii() and text.isdigit()):
            raise ProtocolError(f"the answer has no readable {name} in its header")
        return int(text)
