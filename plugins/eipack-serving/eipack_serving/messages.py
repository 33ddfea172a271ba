"""Requests of the Open Inference Protocol as bytes, run on a session and answered as bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from attrs import frozen
from eipack_eia import calls, oip

if TYPE_CHECKING:
    from eipack.session import Session


@frozen
class Message:
    """A body, of which the first `json_size` bytes are JSON; None where all of it is."""

    body: bytes
    json_size: int | None = None

    @property
    def content_type(self) -> str:
        """How the body is to be announced."""
        return "application/json" if self.json_size is None else "application/octet-stream"

    @property
    def headers(self) -> dict[str, str]:
        """What the protocol's header says of it."""
        if self.json_size is None:
            return {}
        return {"Inference-Header-Content-Length": str(self.json_size)}


def answer(session: Session, name: str, body: bytearray, json_size: str | None) -> Message:
    """Run a request, of which `json_size` is the protocol's header, and return the answer.

    Raises:
        ProtocolError: It breaks the protocol.
        SignatureMismatch: It does not fit the model's signature.
        EipackError: The model failed.
    """
    signature = session.signature
    begin = calls.json_size(json_size, len(body))
    memory = memoryview(body)
    document = oip.decode_request(memory[:begin])
    given = calls.given(document, memory, begin, signature, name)
    wanted = calls.wanted_outputs(document, signature)
    results = session.run_flat(*given.leaves)
    tensors = [results[index] for index, _, _ in wanted]
    head = msgspec.json.encode(calls.answer(name, document.id, wanted, tensors))
    binary = [oip.raw(one) for one, (_, _, raw) in zip(tensors, wanted, strict=True) if raw]
    return Message(b"".join([head, *binary]), len(head) if binary else None)
