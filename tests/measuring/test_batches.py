from __future__ import annotations

from typing import Any

import pytest
import torch
from attrs import evolve

from eipack.errors import SignatureMismatch
from eipack.measuring.batches import resized, rows
from eipack.signature import Dim, DimSize, Signature, Size, TensorSpec
from eipack.tree import TENSOR, Tree


def signature(*shapes: tuple[Size, ...], dims: tuple[Dim, ...] = (Dim("n", 1, 64),)) -> Signature:
    names = tuple(f"x{number}" for number in range(len(shapes)))
    inputs = tuple(
        TensorSpec(name, "float32", shape) for name, shape in zip(names, shapes, strict=True)
    )
    output = TensorSpec("y", "float32", (DimSize("n"), 2))
    tree = Tree("dict", (TENSOR,) * len(shapes), names, type_name="dict")
    return Signature(dims, inputs, (output,), tree, TENSOR, 1)


N = DimSize("n")
PAIR = signature((N, 3), (N,))


def call(count: int) -> Any:
    x = torch.arange(3.0 * count).reshape(count, 3)
    return (x,), {"x1": torch.arange(float(count))}


def test_a_smaller_batch_is_the_first_rows() -> None:
    (x,), kwargs = resized(PAIR, call(5), 2)
    assert torch.equal(x, call(5)[0][0][:2])
    assert torch.equal(kwargs["x1"], torch.tensor([0.0, 1.0]))


def test_a_larger_batch_repeats_the_rows_in_turns() -> None:
    (x,), kwargs = resized(PAIR, call(2), 5)
    assert x.shape == (5, 3)
    assert kwargs["x1"].tolist() == [0, 1, 0, 1, 0]
    assert torch.equal(x[4], x[0])


def test_the_arguments_come_back_as_the_model_takes_them() -> None:
    x, x1 = call(2)[0][0], call(2)[1]["x1"]
    for given in (((x, x1), {}), ((), {"x0": x, "x1": x1})):
        args, kwargs = resized(PAIR, given, 3)
        assert len(args) == 1
        assert list(kwargs) == ["x1"]


def test_the_callers_tensors_stay_as_they_are() -> None:
    given = call(2)
    (x,), _ = resized(PAIR, given, 2)
    x.zero_()
    assert torch.equal(given[0][0], call(2)[0][0])


def test_a_call_has_the_rows_of_its_inputs() -> None:
    assert rows(PAIR, call(4)) == 4


def test_a_package_without_a_batch_has_no_rows_and_cannot_be_resized() -> None:
    fixed = signature((4, 3), dims=(Dim("n", 1, 64),))
    given: Any = ((torch.zeros(4, 3),), {})
    assert rows(fixed, given) is None
    with pytest.raises(SignatureMismatch, match=r"no batch to make 8 rows long.*dynamic batch"):
        resized(fixed, given, 8)


def test_two_dimensions_that_lead_are_no_batch() -> None:
    dims = (Dim("n", 1, 64), Dim("m", 1, 64))
    two = signature((N, 3), (DimSize("m"),), dims=dims)
    with pytest.raises(SignatureMismatch, match="one dynamic dimension in common"):
        resized(two, call(2), 4)


@pytest.mark.parametrize("batch", [0, 65, -1])
def test_a_size_out_of_range_is_refused_with_the_range(batch: int) -> None:
    with pytest.raises(SignatureMismatch, match=rf"a batch of {batch} rows .*n in 1\.\.64"):
        resized(PAIR, call(2), batch)


def test_of_sizes_that_were_proved_one_by_one_each_can_be_had_and_no_other() -> None:
    some = evolve(PAIR, dims=(Dim("n", 1, 8, sizes=(1, 8)),))
    assert rows(some, resized(some, call(1), 8)) == 8
    with pytest.raises(SignatureMismatch, match=r"n in \{1, 8\}"):
        resized(some, call(1), 4)


def test_a_batch_of_one_size_only_can_be_had() -> None:
    one = evolve(PAIR, dims=(Dim("n", 3, 3),))
    assert rows(one, resized(one, call(3), 3)) == 3


def test_arguments_that_do_not_fit_are_refused_as_by_a_call() -> None:
    with pytest.raises(SignatureMismatch, match="x0"):
        resized(PAIR, ((torch.zeros(2, 4),), {"x1": torch.zeros(2)}), 2)


def test_other_dynamic_dimensions_keep_their_size() -> None:
    dims = (Dim("n", 1, 64), Dim("length", 1, 9))
    text = signature((N, DimSize("length")), dims=dims)
    (x,), _ = resized(text, ((torch.zeros(1, 7),), {}), 4)
    assert x.shape == (4, 7)
