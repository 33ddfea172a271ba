"""Names, sizes and arguments of a package's calls."""

from __future__ import annotations

import pytest

from eipack.errors import SignatureMismatch
from eipack.signature import Dim, DimSize, Signature, TensorSpec
from eipack.tree import TENSOR, Tree

SCALE = Tree("constant", value=2)


def signature(**parameters):
    names = [name for name, tree in parameters.items() if tree.kind == "tensor"]
    return Signature(
        dims=(Dim("batch", 1, 8),),
        inputs=tuple(TensorSpec(name, "float32", (DimSize("batch"), 4)) for name in names),
        outputs=(),
        input_tree=Tree("dict", tuple(parameters.values()), tuple(parameters)),
        output_tree=TENSOR,
        positional=1,
    )


@pytest.mark.parametrize(
    ("dim", "inside", "outside", "text"),
    [
        (Dim("n", 2, 5), (2, 5), (1, 6, 0), "n in 2..5"),
        (Dim("n", 1, None), (1, 10**9), (0, -1), "n in 1.."),
        (Dim("n", 1, 9, (1, 4, 9)), (1, 4, 9), (2, 3, 10), "n in {1, 4, 9}"),
    ],
)
def test_a_dimension_admits_its_range(dim, inside, outside, text):
    assert all(dim.admits(size) for size in inside)
    assert not any(dim.admits(size) for size in outside)
    assert str(dim) == text


@pytest.mark.parametrize(
    ("size", "text", "at_five"),
    [
        (DimSize("n"), "n", 5),
        (DimSize("n", 2), "2*n", 10),
        (DimSize("n", 1, -1), "n-1", 4),
        (DimSize("n", 2, 1), "2*n+1", 11),
    ],
)
def test_a_size_follows_its_dimension(size, text, at_five):
    assert str(size) == text
    assert size.at({"n": 5}) == at_five


def test_a_spec_gives_its_shape_where_that_is_known():
    assert str(TensorSpec("x", "float32", (DimSize("n"), 4))) == "x: float32[n, 4]"
    assert str(TensorSpec("y", "int64", (None,))) == "y: int64[?]"


def test_arguments_are_bound_by_position_and_by_name():
    call = signature(x=TENSOR, y=TENSOR, scale=SCALE)
    expected = {"x": "X", "y": "Y", "scale": 2}
    assert call.bind(("X", "Y"), {}) == expected
    assert call.bind((), {"y": "Y", "x": "X"}) == expected
    assert call.bind(("X",), {"y": "Y", "scale": 2}) == expected


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        (("X", "Y", 2, 3), {}, "4 positional arguments given, at most 3 expected: x, y, scale"),
        (("X",), {}, "argument 'y' is missing"),
        (("X",), {"x": "X", "y": "Y"}, "argument 'x' given twice"),
        (("X", "Y"), {"z": 1}, "unknown argument 'z'; this package takes x, y, scale"),
    ],
)
def test_arguments_that_do_not_fit_are_explained(args, kwargs, message):
    with pytest.raises(SignatureMismatch, match=message):
        signature(x=TENSOR, y=TENSOR, scale=SCALE).bind(args, kwargs)


def test_flat_tensors_become_the_models_own_call():
    call = signature(x=TENSOR, y=TENSOR, scale=SCALE)
    assert call.nest(["X", "Y"]) == (("X",), {"y": "Y", "scale": 2})


def test_a_dimension_is_found_by_name():
    assert signature(x=TENSOR).dim("batch") == Dim("batch", 1, 8)
