"""Messages of the Open Inference Protocol: tensors there and back, and what breaks its rules."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import torch
from eipack_eia import oip
from eipack_eia.oip import Parameters, WireTensor

from eipack.errors import ProtocolError, UnsupportedModel
from eipack.signature import DimSize, TensorSpec

DATATYPES = {
    "BOOL": torch.bool,
    "UINT8": torch.uint8,
    "UINT16": torch.uint16,
    "UINT32": torch.uint32,
    "UINT64": torch.uint64,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "FP16": torch.float16,
    "FP32": torch.float32,
    "FP64": torch.float64,
    "BF16": torch.bfloat16,
}
SHAPES = [(), (0, 3), (1,), (2, 3), (2, 1, 4)]
every_datatype = pytest.mark.parametrize("datatype", DATATYPES)


def example(dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randint(0, 2 if dtype == torch.bool else 100, shape).to(dtype)


def binary(name: str, datatype: str, shape: list[int], nbytes: int | None) -> WireTensor:
    return WireTensor(name, datatype, shape, Parameters(binary_data_size=nbytes))


def in_json(datatype: str, shape: list[int], data: Any) -> WireTensor:
    return WireTensor("x", datatype, shape, data=data)


def request(**changed: Any) -> bytes:
    one = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}
    return msgspec.json.encode({"inputs": [one], **changed})


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_datatype
def test_a_binary_tensor_comes_back_as_it_was(datatype: str, shape: tuple[int, ...]) -> None:
    tensor = example(DATATYPES[datatype], shape)
    document = msgspec.json.encode({"inputs": [oip.announce("x", tensor)]})
    body = bytearray(document + bytes(oip.raw(tensor)))
    [one] = oip.decode_request(document).inputs
    place = oip.places([one], len(body) - len(document))["x"]
    back = place.view(memoryview(body), len(document))
    assert one.datatype == datatype
    assert back.dtype == tensor.dtype
    assert torch.equal(back, tensor)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_datatype
def test_a_tensor_in_json_comes_back_as_it_was(datatype: str, shape: tuple[int, ...]) -> None:
    tensor = example(DATATYPES[datatype], shape)
    document = {"model_name": "m", "outputs": [oip.as_json("x", tensor)]}
    [one] = oip.decode_response(msgspec.json.encode(document)).outputs
    back = oip.from_json(one)
    assert back.dtype == tensor.dtype
    assert torch.equal(back, tensor)


def test_data_in_json_may_be_nested_or_flat() -> None:
    flat = oip.from_json(in_json("INT32", [2, 3], [1, 2, 3, 4, 5, 6]))
    nested = oip.from_json(in_json("INT32", [2, 3], [[1, 2, 3], [4, 5, 6]]))
    assert torch.equal(flat, nested)
    assert flat.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("datatype", "number"),
    [("INT64", 2**63 - 1), ("INT64", -(2**63)), ("UINT64", 2**64 - 1), ("UINT8", 255)],
)
def test_the_largest_numbers_come_through_json_whole(datatype: str, number: int) -> None:
    assert oip.from_json(in_json(datatype, [1], [number])).tolist() == [number]


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT64", [1.5]),
        ("INT8", [128]),
        ("INT64", [2**63]),
        ("UINT8", [-1]),
        ("UINT16", [-1]),
        ("UINT64", [-1]),
        ("BOOL", [2]),
        ("BOOL", [0.5]),
        ("FP32", [None]),
        ("FP32", ["1"]),
        ("INT32", [{}]),
    ],
    ids=str,
)
def test_a_number_that_its_datatype_has_not_is_refused(datatype: str, data: list[Any]) -> None:
    with pytest.raises(ProtocolError, match=rf"'x': its data do not fit {datatype} of shape"):
        oip.from_json(in_json(datatype, [1], data))


@pytest.mark.parametrize(
    "data",
    [[1, 2, 3], [[1, 2], [3, 4], [5, 6]], [[1, 2, 3], [4, 5]], [[[1, 2, 3], [4, 5, 6]]], []],
    ids=str,
)
def test_data_of_another_shape_are_refused(data: list[Any]) -> None:
    with pytest.raises(ProtocolError, match=r"do not fit INT32 of shape \[2, 3\]"):
        oip.from_json(in_json("INT32", [2, 3], data))


def test_a_tensor_without_any_data_is_refused() -> None:
    with pytest.raises(ProtocolError, match="'x' has neither data nor binary_data_size"):
        oip.from_json(in_json("FP32", [1], None))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_what_json_has_no_number_for_is_no_null_instead(dtype: torch.dtype, number: float) -> None:
    with pytest.raises(ProtocolError, match="'y' holds what JSON has no number for"):
        oip.as_json("y", torch.tensor([1.0, number], dtype=dtype))


@pytest.mark.parametrize("start", range(8))
def test_a_tensor_is_read_at_any_address(start: int) -> None:
    tensor = torch.randn(3, dtype=torch.float64)
    body = bytearray(b"\xff" * start + bytes(oip.raw(tensor)))
    place = oip.Place("x", torch.float64, (3,), 0, tensor.nbytes)
    assert torch.equal(place.view(memoryview(body), start), tensor)


def test_an_aligned_tensor_is_a_view_of_what_was_received() -> None:
    received = torch.zeros(64, dtype=torch.uint8)
    place = oip.Place("x", torch.float32, (4,), 16, 16)
    view = place.view(received.numpy().data, 0)
    received[16:32] = torch.ones(4).view(torch.uint8)
    assert view.tolist() == [1, 1, 1, 1]


def test_the_raw_bytes_are_the_tensors_own() -> None:
    tensor = torch.zeros(2, 2)
    raw = oip.raw(tensor)
    tensor[0, 0] = 1
    assert bytes(raw) == b"\x00\x00\x80\x3f" + bytes(12)


def test_the_raw_bytes_are_in_row_major_order() -> None:
    tensor = torch.arange(6, dtype=torch.uint8).reshape(2, 3).t()
    assert bytes(oip.raw(tensor)) == bytes([0, 3, 1, 4, 2, 5])


def test_tensors_lie_behind_each_other_in_the_order_of_their_announcements() -> None:
    some = [
        binary("a", "INT8", [3], 3),
        in_json("FP32", [1], [1.0]),
        binary("b", "FP16", [2], 4),
        binary("empty", "FP64", [0], 0),
    ]
    places = oip.places(some, 7)
    found = {name: (place.offset, place.nbytes) for name, place in places.items()}
    assert found == {"a": (0, 3), "b": (3, 4), "empty": (7, 0)}


@pytest.mark.parametrize("size", [0, 11, 13])
def test_announcements_that_do_not_add_up_to_the_body_are_refused(size: int) -> None:
    with pytest.raises(ProtocolError, match=f"12 bytes of tensors are announced, and {size} are"):
        oip.places([binary("x", "FP32", [3], 12)], size)


@pytest.mark.parametrize("nbytes", [-12, 0, 8, 13])
def test_an_announcement_that_does_not_fit_its_shape_is_refused(nbytes: int) -> None:
    with pytest.raises(ProtocolError, match=rf"FP32 of shape \[3\] has 12 bytes, {nbytes} are"):
        oip.places([binary("x", "FP32", [3], nbytes)], nbytes)


@pytest.mark.parametrize(
    "shape",
    [[-1], [2, -3], [-1, -1], [1] * 65, [0, 2**40, 2**40], [0, 2**62, 4], [0, 10**30], [2**63]],
    ids=str,
)
def test_what_is_no_shape_is_refused(shape: list[int]) -> None:
    with pytest.raises(ProtocolError, match=r"'x': .* is no shape"):
        oip.places([binary("x", "FP32", shape, 0)], 0)
    with pytest.raises(ProtocolError, match=r"'x': .* is no shape"):
        oip.from_json(in_json("FP32", shape, []))


@pytest.mark.parametrize("datatype", ["BYTES", "fp32", "", "COMPLEX64"])
def test_an_unknown_datatype_is_refused(datatype: str) -> None:
    with pytest.raises(ProtocolError, match=f"datatype '{datatype}' is not supported"):
        oip.places([binary("x", datatype, [1], 4)], 4)


def test_a_dtype_that_the_protocol_lacks_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="no datatype for complex64"):
        oip.announce("x", torch.zeros(1, dtype=torch.complex64))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"inputs": 1}',
        b'{"inputs": [{"name": "x"}]}',
        request(id=7),
        request(parameters={"timeout": "soon"}),
        request(outputs=[{"name": 1}]),
        request()[:-1],
        b'{"inputs": ' + b"[" * 100_000,
    ],
    ids=lambda data: repr(data[:24]),
)
def test_what_is_no_inference_request_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="the request is no inference request"):
        oip.decode_request(data)


def test_parameters_that_mean_nothing_here_are_let_be() -> None:
    parameters = {"sequence_id": 3, "timeout": 5, "priority": "high"}
    assert oip.decode_request(request(parameters=parameters)).parameters.timeout == 5


def test_what_is_no_inference_response_is_refused() -> None:
    with pytest.raises(ProtocolError, match="the answer is no inference response"):
        oip.decode_response(b'{"outputs": "none"}')


def test_a_size_that_varies_is_described_as_minus_one() -> None:
    spec = TensorSpec("x", "float16", (DimSize("batch"), 3, None))
    assert oip.describe(spec) == {"name": "x", "datatype": "FP16", "shape": [-1, 3, -1]}
