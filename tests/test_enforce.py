"""The signature holds on every call, before anything native runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from eipack.enforce import Enforcer
from eipack.errors import SignatureMismatch
from eipack.signature import Dim, DimSize, Signature, TensorSpec
from eipack.tree import TENSOR, Tree, describe

BATCH = DimSize("batch")


def signature(
    *inputs: TensorSpec, tree: Tree | None = None, dims: tuple[Dim, ...] = (), positional: int = 9
) -> Signature:
    names = tuple(spec.name for spec in inputs)
    flat = Tree("dict", (TENSOR,) * len(inputs), names)
    return Signature(dims, inputs, (), tree or flat, TENSOR, min(positional, len(names)))


class Odd(torch.Tensor):
    """A subclass, whose operators may be anything."""


PAIR = signature(
    TensorSpec("x", "float32", (BATCH, 3)),
    TensorSpec("ids", "int64", (BATCH, DimSize("batch", 2, 1))),
    dims=(Dim("batch", 1, 8),),
)
CPU = frozenset({"cpu"})


def call(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    return Enforcer(PAIR, CPU)(args, kwargs)


def pair(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(batch, 3), torch.zeros(batch, 2 * batch + 1, dtype=torch.int64)


@pytest.mark.parametrize("batch", [1, 5, 8])
def test_sizes_within_the_range_pass(batch: int) -> None:
    x, ids = pair(batch)
    assert call(x, ids) == (x, ids)


def test_a_parameter_is_a_tensor_like_any_other() -> None:
    x, ids = pair(2)
    assert call(torch.nn.Parameter(x), ids)


def test_keywords_in_any_order_are_put_in_signature_order() -> None:
    x, ids = pair(2)
    assert call(ids=ids, x=x) == (x, ids)
    assert call(x, ids=ids) == (x, ids)


@pytest.mark.parametrize("batch", [0, 9])
def test_sizes_outside_the_range_are_refused_with_the_range(batch: int) -> None:
    with pytest.raises(SignatureMismatch, match=r"input 'x': size \d on axis 0.*batch in 1\.\.8"):
        call(*pair(batch))


def test_sizes_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(SignatureMismatch, match=r"input 'ids': size 3.*batch is 2 by 'x' axis 0"):
        call(pair(2)[0], pair(3)[1])


def test_a_derived_size_must_fit_its_formula() -> None:
    with pytest.raises(SignatureMismatch, match=r"size 4 on axis 1.*2\*batch\+1"):
        call(torch.zeros(2, 3), torch.zeros(2, 4, dtype=torch.int64))


def test_only_tested_sizes_pass_where_they_are_listed() -> None:
    narrow = signature(
        TensorSpec("x", "float32", (BATCH,)), dims=(Dim("batch", 1, 64, sizes=(1, 4, 64)),)
    )
    enforce = Enforcer(narrow, CPU)
    assert enforce((torch.zeros(4),), {})
    with pytest.raises(SignatureMismatch, match=r"batch in \{1, 4, 64\}"):
        enforce((torch.zeros(5),), {})


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (torch.zeros(2, 3, dtype=torch.float64), "dtype float64, expected float32"),
        (torch.zeros(2, 3, 1), r"3 dimensions \(2, 3, 1\), expected 2"),
        (torch.zeros(2, 4), "size 4 on axis 1, expected 3"),
        (torch.zeros(2, 3, device="meta"), "on meta, expected on cpu"),
        (torch.zeros(2, 3).to_sparse(), "layout torch.sparse_coo, expected a dense tensor"),
        ([[1.0, 2.0, 3.0]], "a list was given, expected a plain tensor"),
        (None, "a NoneType was given, expected a plain tensor"),
        (torch.zeros(2, 3).as_subclass(Odd), "a Odd was given, expected a plain tensor"),
    ],
)
def test_a_wrong_tensor_is_refused_with_its_reason(bad: Any, reason: str) -> None:
    with pytest.raises(SignatureMismatch, match=f"input 'x': {reason}") as caught:
        call(bad, pair(2)[1])
    assert caught.value.input == "x"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("args", "kwargs", "reason"),
    [
        (pair(2)[:1], {}, "argument 'ids' is missing"),
        ((*pair(2), torch.zeros(1)), {}, "3 positional arguments given, at most 2 expected"),
        (pair(2), {"y": 1}, "unknown argument 'y'; this package takes x, ids"),
        (pair(2), {"x": pair(2)[0]}, "argument 'x' given twice"),
    ],
)
def test_a_wrong_count_is_refused(args: Any, kwargs: Any, reason: str) -> None:
    with pytest.raises(SignatureMismatch, match=reason):
        call(*args, **kwargs)


def test_a_mismatch_is_a_type_error_and_a_value_error() -> None:
    with pytest.raises(TypeError):
        call()
    with pytest.raises(ValueError, match="missing"):
        call()


def nested() -> tuple[Enforcer, dict[str, Any]]:
    value = {"batch": {"a": torch.zeros(2), "b": [torch.ones(3), None]}, "scale": 2}
    tree, leaves, names = describe(value, constants=True)
    specs = [
        TensorSpec(name, "float32", tuple(leaf.shape))
        for name, leaf in zip(names, leaves, strict=True)
    ]
    return Enforcer(signature(*specs, tree=tree), CPU), value


def test_nested_arguments_are_flattened() -> None:
    enforce, value = nested()
    a, b = enforce((), value)
    assert a is value["batch"]["a"]
    assert b is value["batch"]["b"][0]


def test_a_constant_may_be_left_out_but_not_changed() -> None:
    enforce, value = nested()
    assert enforce((value["batch"],), {})
    with pytest.raises(SignatureMismatch, match="at 'scale': expected the constant 2, got 3"):
        enforce((value["batch"], 3), {})
    with pytest.raises(SignatureMismatch, match="expected the constant 2, got True"):
        enforce((value["batch"], True), {})


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"a": torch.zeros(2)}, "at 'batch': expected a dict with the keys"),
        ({"a": torch.zeros(2), "b": torch.ones(3)}, "at 'batch.b': expected a list of 2"),
        ({"a": torch.zeros(2), "b": [torch.ones(3)]}, "at 'batch.b': expected a list of 2"),
        ({"a": torch.zeros(2), "b": [torch.ones(3), 1]}, "at 'batch.b.1': expected None, got 1"),
        (torch.zeros(2), "at 'batch': expected a dict"),
    ],
)
def test_a_wrong_structure_is_refused_with_its_place(wrong: Any, reason: str) -> None:
    enforce, _ = nested()
    with pytest.raises(SignatureMismatch, match=reason):
        enforce((wrong,), {})


def test_a_tensor_in_place_of_another_containers_tensor_count_is_no_accident() -> None:
    """One positional tensor must not pass for a dict with one tensor."""
    tree, leaves, names = describe({"batch": {"a": torch.zeros(2)}}, constants=True)
    enforce = Enforcer(signature(TensorSpec(names[0], "float32", (2,)), tree=tree), CPU)
    with pytest.raises(SignatureMismatch, match="at 'batch': expected a dict"):
        enforce((leaves[0],), {})
