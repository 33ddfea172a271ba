"""The messages of the Open Inference Protocol (KServe v2) with its binary tensor extension.

A message is JSON, then the raw little-endian tensors that the JSON announces by
`binary_data_size`, in its order. Source: the protocol's `required_api.md` and Triton's
`extension_binary_data.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Final

import msgspec
import torch
from attrs import frozen

from eipack.dtypes import dtype_name
from eipack.errors import ProtocolError, UnsupportedModel
from eipack.signature import DimSize, TensorSpec

JSON_LENGTH_HEADER: Final = "inference-header-content-length"
BINARY_SIZE: Final = "binary_data_size"

_DATATYPES: Final = {
    "bool": "BOOL",
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
    "bfloat16": "BF16",
}
_DTYPES: Final = {datatype: getattr(torch, name) for name, datatype in _DATATYPES.items()}


def datatype_of(dtype: torch.dtype) -> str:
    """Return the protocol's name of a dtype.

    Raises:
        UnsupportedModel: The protocol has none.
    """
    name = dtype_name(dtype)
    if name not in _DATATYPES:
        raise UnsupportedModel(f"the Open Inference Protocol has no datatype for {name}")
    return _DATATYPES[name]


class Parameters(msgspec.Struct, omit_defaults=True):
    """What beside tensors matters of a tensor's or a request's parameters."""

    binary_data_size: int | None = None
    binary_data: bool | None = None
    binary_data_output: bool | None = None
    timeout: int | None = None
    classification: int | None = None


class WireTensor(msgspec.Struct, omit_defaults=True):
    """A tensor's announcement; `data` where it comes as JSON."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters = msgspec.field(default_factory=Parameters)
    data: list[Any] | None = None


class WantedOutput(msgspec.Struct, omit_defaults=True):
    """An output that a client asks for."""

    name: str
    parameters: Parameters = msgspec.field(default_factory=Parameters)


class InferRequest(msgspec.Struct, omit_defaults=True):
    """The JSON of a request; `parameters.timeout` is in microseconds."""

    inputs: list[WireTensor]
    id: str | None = None
    outputs: list[WantedOutput] | None = None
    parameters: Parameters = msgspec.field(default_factory=Parameters)


class InferResponse(msgspec.Struct, omit_defaults=True):
    """The JSON of an answer."""

    model_name: str
    outputs: list[WireTensor]
    model_version: str | None = None
    id: str | None = None


_requests = msgspec.json.Decoder(InferRequest)
_responses = msgspec.json.Decoder(InferResponse)


@frozen
class Place:
    """Where a binary tensor lies behind the JSON."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    nbytes: int

    def lies_aligned(self, start: int) -> bool:
        """Tell whether it can be viewed where it lies, in memory that is aligned itself."""
        return not (start + self.offset) % self.dtype.itemsize

    def view(self, memory: memoryview, start: int) -> torch.Tensor:
        """Return the tensor over the bytes themselves, or a copy where they are not aligned.

        `memory` itself begins at an address that is aligned for any dtype.
        """
        begin = start + self.offset
        if not self.nbytes:
            return torch.empty(self.shape, dtype=self.dtype)
        if not self.lies_aligned(start):
            memory, begin = memoryview(bytearray(memory[begin : begin + self.nbytes])), 0
        count = self.nbytes // self.dtype.itemsize
        flat = torch.frombuffer(memory, dtype=self.dtype, count=count, offset=begin)
        return flat.view(self.shape)


def decode_request(data: bytes | memoryview) -> InferRequest:
    """Read the JSON of a request.

    Raises:
        ProtocolError: It is not one.
    """
    try:
        return _requests.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"the request is no inference request: {error}") from error


def decode_response(data: bytes | memoryview) -> InferResponse:
    """Read the JSON of an answer.

    Raises:
        ProtocolError: It is not one.
    """
    try:
        return _responses.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"the answer is no inference response: {error}") from error


def places(tensors: Sequence[WireTensor], body_size: int) -> dict[str, Place]:
    """Lay the announced binary tensors out in the body.

    Raises:
        ProtocolError: Announcements contradict themselves or the body's size.
    """
    found: dict[str, Place] = {}
    offset = 0
    for one in tensors:
        nbytes = one.parameters.binary_data_size
        if nbytes is None:
            continue
        found[one.name] = Place(one.name, *_checked(one, nbytes), offset, nbytes)
        offset += nbytes
    if offset != body_size:
        raise ProtocolError(
            f"{offset} bytes of tensors are announced, and {body_size} are behind the JSON"
        )
    return found


def _checked(one: WireTensor, nbytes: int | None) -> tuple[torch.dtype, tuple[int, ...]]:
    dtype = _DTYPES.get(one.datatype)
    if dtype is None:
        raise ProtocolError(f"tensor {one.name!r}: datatype {one.datatype!r} is not supported")
    extent = prod(max(size, 1) for size in one.shape)  # strides count an empty axis as one
    if min(one.shape, default=0) < 0 or len(one.shape) > _MOST_AXES or extent > _LARGEST:
        raise ProtocolError(f"tensor {one.name!r}: {str(one.shape)[:80]} is no shape")
    expected = prod(one.shape) * dtype.itemsize
    if nbytes is not None and nbytes != expected:
        raise ProtocolError(
            f"tensor {one.name!r}: {one.datatype} of shape {one.shape} has {expected} bytes, "
            f"{nbytes} are announced"
        )
    return dtype, tuple(one.shape)


_MOST_AXES: Final = 64
_LARGEST: Final = 1 << 48


def from_json(one: WireTensor) -> torch.Tensor:
    """Make a tensor of one that came as JSON, nested or flat in row-major order.

    Raises:
        ProtocolError: The data do not fit datatype and shape.
    """
    dtype, shape = _checked(one, None)
    if one.data is None:
        raise ProtocolError(f"tensor {one.name!r} has neither data nor binary_data_size")
    try:
        return _numbers(one.data, dtype, shape)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ProtocolError(
            f"tensor {one.name!r}: its data do not fit {one.datatype} of shape {one.shape}"
        ) from error


def _numbers(data: list[Any], dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    made = torch.tensor(data, dtype=torch.float64 if dtype.is_floating_point else dtype)
    if not dtype.is_floating_point and made.tolist() != data:
        raise ValueError("torch has rounded or wrapped a number")
    if made.dim() > 1 and made.shape != shape:
        raise ValueError("the lists are nested in another way")
    return made.to(dtype).reshape(shape)


def announce(name: str, tensor: torch.Tensor) -> dict[str, Any]:
    """Return the JSON of a tensor that follows in binary."""
    return {
        "name": name,
        "shape": list(tensor.shape),
        "datatype": datatype_of(tensor.dtype),
        "parameters": {BINARY_SIZE: tensor.numel() * tensor.element_size()},
    }


def as_json(name: str, tensor: torch.Tensor) -> dict[str, Any]:
    """Return the JSON of a tensor, its data included.

    Raises:
        ProtocolError: JSON has no infinity and no NaN.
    """
    wide = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    if wide.is_floating_point() and not wide.isfinite().all():
        raise ProtocolError(f"{name!r} holds what JSON has no number for; ask for it in binary")
    return {
        "name": name,
        "shape": list(tensor.shape),
        "datatype": datatype_of(tensor.dtype),
        "data": wide.reshape(-1).tolist(),
    }


def raw(tensor: torch.Tensor) -> memoryview:
    """Return a CPU tensor's bytes in row-major order, copied only if they lie otherwise."""
    if not tensor.is_contiguous():
        tensor = tensor.contiguous()
    if tensor.dtype is torch.bfloat16:  # which numpy lacks
        tensor = tensor.detach().view(torch.int16)
    return tensor.numpy(force=True).data


def describe(spec: TensorSpec) -> dict[str, Any]:
    """Return a model's input or output as its metadata has it; -1 is a size that varies."""
    return {
        "name": spec.name,
        "datatype": _DATATYPES.get(spec.dtype, spec.dtype.upper()),
        "shape": [-1 if size is None or isinstance(size, DimSize) else size for size in spec.shape],
    }
