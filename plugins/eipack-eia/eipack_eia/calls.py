"""An inference request as a call, and a call's outputs as an answer, for every server alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from attrs import frozen
from torch import Tensor

from eipack.errors import ProtocolError, SignatureMismatch
from eipack.signature import Signature
from eipack_eia import oip

VERSION: Final = "1"
"""The only version that a model has."""

Wanted = tuple[tuple[int, str, bool], ...]
"""Position, name, and whether in binary, of each output that is wanted."""


@frozen
class Given:
    """A request's tensors in signature order; `viewed` if all are views of its memory."""

    leaves: tuple[Tensor, ...]
    viewed: bool


def json_size(text: str | None, body_size: int) -> int:
    """Return how much of a body is JSON, by its header; all of it without one.

    Raises:
        ProtocolError: The header is no such number.
    """
    if text is None:
        return body_size
    number = text.isascii() and text.isdigit() and len(text) <= 20
    if not number or int(text) > body_size:
        raise ProtocolError(f"Inference-Header-Content-Length {text[:40]!r} is no length of JSON")
    return int(text)


def given(
    document: oip.InferRequest, memory: memoryview, begin: int, signature: Signature, name: str
) -> Given:
    """Return the tensors of a request whose binary ones begin there in memory.

    Raises:
        ProtocolError: It breaks the protocol.
        SignatureMismatch: It names other inputs than the model `name` has.
    """
    found = oip.places(document.inputs, len(memory) - begin)
    tensors: dict[str, Tensor] = {}
    for one in document.inputs:
        if one.name in tensors:
            raise ProtocolError(f"input {one.name!r} is there twice")
        place = found.get(one.name)
        tensors[one.name] = oip.from_json(one) if place is None else place.view(memory, begin)
    wanted = {spec.name for spec in signature.inputs}
    if set(tensors) != wanted:
        raise SignatureMismatch(
            f"inputs {', '.join(sorted(tensors))} were given; {name} takes "
            f"{', '.join(sorted(wanted))}"
        )
    aligned = all(at.lies_aligned(begin) for at in found.values())
    leaves = tuple(tensors[spec.name] for spec in signature.inputs)
    return Given(leaves, aligned and len(found) == len(tensors))


def wanted_outputs(document: oip.InferRequest, signature: Signature) -> Wanted:
    """Return the outputs that a request asks for, all if it names none.

    Raises:
        ProtocolError: It asks for what is not offered.
        SignatureMismatch: It names an output that the model does not have.
    """
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


def answer(
    model: str, request_id: str | None, outputs: Wanted, tensors: Sequence[Tensor]
) -> dict[str, Any]:
    """Return the JSON of an answer; `tensors` are those of `outputs`.

    Raises:
        ProtocolError: JSON is asked for, and has no number for what the model gives.
    """
    announced = [
        oip.announce(name, tensor) if binary else oip.as_json(name, tensor)
        for (_, name, binary), tensor in zip(outputs, tensors, strict=True)
    ]
    head = {"model_name": model, "model_version": VERSION, "outputs": announced}
    return head if request_id is None else {"id": request_id, **head}
