from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest
import torch

from eipack.cli.inputs import (
    FileInput,
    InputType,
    ShapeInput,
    TextInput,
    call_inputs,
    check_together,
    example_inputs,
    read_tensors,
    write_tensors,
)
from eipack.errors import ExampleInputsRequired, PackageIOError, SignatureMismatch
from eipack.signature import Signature, TensorSpec
from eipack.tree import TENSOR, Tree

SIGNATURE = Signature(
    dims=(),
    inputs=(TensorSpec("x", "float32", (2, 3)), TensorSpec("ids", "int64", (2,))),
    outputs=(),
    input_tree=Tree("dict", (TENSOR, TENSOR), ("x", "ids")),
    output_tree=TENSOR,
    positional=2,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x=1x3x224x224:float32", ShapeInput("x", (1, 3, 224, 224), "float32")),
        ("x=7", ShapeInput("x", (7,), None)),
        ("batch.x=2x3", ShapeInput("batch.x", (2, 3), None)),
        ("2x3", ShapeInput(None, (2, 3), None)),
        ("7:int64", ShapeInput(None, (7,), "int64")),
        ("7", TextInput("7")),
        ("PyTorch is a Framework", TextInput("PyTorch is a Framework")),
        ("x = 3", TextInput("x = 3")),
        ("in.npz", FileInput(Path("in.npz"))),
        ("dir/in.safetensors", FileInput(Path("dir/in.safetensors"))),
    ],
)
def test_an_input_is_told_by_its_form(text: str, expected: object) -> None:
    assert InputType().convert(text, None, None) == expected


def test_a_file_or_a_text_stands_alone() -> None:
    with pytest.raises(click.UsageError, match="stands alone"):
        check_together([TextInput("a"), ShapeInput("x", (1,), None)])


def test_shapes_are_drawn_the_same_each_time() -> None:
    first, second = (
        example_inputs([ShapeInput("x", (2, 3), "float16")], None, {}, None) for _ in range(2)
    )
    assert first["x"].dtype is torch.float16
    assert torch.equal(first["x"], second["x"])


def test_integers_are_drawn_from_what_every_table_has() -> None:
    drawn = example_inputs([ShapeInput(None, (100,), "int64")], None, {}, None)[0]
    assert set(drawn.tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("spec", "dtype", "low", "high"),
    [
        ({"low": 5.0, "high": 9.0}, "int64", 5, 9),
        ({"low": 5.0, "high": 5.5}, "float32", 5, 5.5),
        ({"values": (4.0, 8.0)}, "int32", 4, 8),
    ],
)
def test_shapes_are_drawn_within_their_spec(
    spec: dict[str, object], dtype: str, low: float, high: float
) -> None:
    drawn = example_inputs([ShapeInput("x", (50,), dtype)], None, {"x": spec}, None)["x"]
    assert low <= drawn.min() <= drawn.max() <= high


def test_named_and_unnamed_shapes_do_not_mix() -> None:
    with pytest.raises(click.UsageError, match="or none of them"):
        example_inputs([ShapeInput("x", (1,), None), ShapeInput(None, (1,), None)], None, {}, None)


def test_an_unknown_dtype_is_wrong_use() -> None:
    with pytest.raises(click.UsageError, match="no dtype 'float33'"):
        example_inputs([ShapeInput("x", (1,), "float33")], None, {}, None)


def test_a_text_without_a_tokenizer_says_what_else_to_give() -> None:
    with pytest.raises(ExampleInputsRequired, match="x=1x3x224x224:float32"):
        example_inputs([TextInput("hello")], None, {}, None)


def test_arrays_that_numpy_named_are_positional(tmp_path: Path) -> None:
    x, ids = np.ones((2, 3), np.float32), np.zeros(2, np.int64)
    np.savez(tmp_path / "in.npz", x, ids)
    given = [FileInput(tmp_path / "in.npz")]
    assert [t.shape for t in example_inputs(given, None, {}, None)] == [(2, 3), (2,)]
    ordered = call_inputs(given, SIGNATURE, None)
    assert ordered is not None
    assert [t.dtype for t in ordered] == [torch.float32, torch.int64]


def test_a_call_gets_its_tensors_in_the_order_of_the_signature(tmp_path: Path) -> None:
    path = tmp_path / "in.safetensors"
    write_tensors({"ids": torch.zeros(2, dtype=torch.int64), "x": torch.ones(2, 3)}, path)
    ordered = call_inputs([FileInput(path)], SIGNATURE, None)
    assert ordered is not None
    assert [tuple(tensor.shape) for tensor in ordered] == [(2, 3), (2,)]


def test_shapes_take_the_dtypes_of_the_signature() -> None:
    given = [ShapeInput(None, (2, 3), None), ShapeInput(None, (2,), None)]
    ordered = call_inputs(given, SIGNATURE, None)
    assert ordered is not None
    assert [tensor.dtype for tensor in ordered] == [torch.float32, torch.int64]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([ShapeInput("x", (2, 3), None)], "lacks the input 'ids'"),
        ([ShapeInput("y", (2, 3), None)], "unknown input 'y'"),
        ([ShapeInput(None, (1,), None)] * 3, "unknown input 'input 3'"),
    ],
)
def test_inputs_that_do_not_fit_say_what_the_package_takes(
    given: list[ShapeInput], told: str
) -> None:
    with pytest.raises(SignatureMismatch, match=rf"{told}; the package takes x: float32\[2, 3\]"):
        call_inputs(given, SIGNATURE, None)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_tensors_come_back_as_they_were_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    tensors = {"a": torch.arange(6).reshape(2, 3).t(), "b": torch.tensor(1.5)}
    write_tensors(tensors, path)
    found = read_tensors(path)
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_file_that_holds_no_tensors_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"in{suffix}"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(PackageIOError, match="cannot be read as tensors"):
        read_tensors(path)


def test_pickled_arrays_are_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(PackageIOError, match="cannot be read as tensors"):
        read_tensors(tmp_path / "in.npz")


def test_a_dtype_that_numpy_lacks_cannot_be_written_as_npz(tmp_path: Path) -> None:
    with pytest.raises(PackageIOError, match="BFloat16"):
        write_tensors({"y": torch.ones(1, dtype=torch.bfloat16)}, tmp_path / "out.npz")
