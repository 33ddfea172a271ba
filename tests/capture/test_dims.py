"""Dynamic dimensions: declared as torch.export declares them, for every method."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.export import Dim

import eipack
from eipack.errors import (
    CaptureFailed,
    MethodConflict,
    ParityInputsRequired,
    SignatureMismatch,
    UnsupportedModel,
)

X = torch.linspace(-1, 1, 12).reshape(3, 4)
METHODS = ["trace", "script", "export"]


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.linear(a).sum(0) + b[::2].sum(0)


class Affine(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rows", [1, 3], ids=["sample of one", "sample of three"])
def test_a_range_is_served_whole_whatever_the_sample(export, answer, batch, method, rows):
    model = Affine().eval()
    package = export(model, (X[:rows],), method=method, dynamic_shapes=batch(1, 8))
    assert str(package.signature.dims[0]) == "batch in 1..8"
    assert str(package.signature.outputs[0]) == "output: float32[batch, 4]"
    for size in (1, 2, 7, 8):
        x = torch.randn(size, 4)
        torch.testing.assert_close(answer(package, x), model(x))


@pytest.mark.parametrize("method", METHODS)
def test_a_call_outside_the_range_is_refused(export, answer, batch, method):
    package = export(Affine().eval(), (X,), method=method, dynamic_shapes=batch(2, 8))
    for size in (1, 9):
        with pytest.raises(SignatureMismatch, match=r"batch in 2\.\.8"):
            answer(package, torch.randn(size, 4))


@pytest.mark.parametrize("method", METHODS)
def test_a_size_may_follow_another(export, answer, method):
    batch = Dim("batch", min=1, max=8)
    model = Pair().eval()
    inputs = (torch.randn(1, 4), torch.randn(3, 4))
    shapes = {"a": {0: batch}, "b": {0: 2 * batch + 1}}
    package = export(model, inputs, method=method, dynamic_shapes=shapes)
    assert str(package.signature.inputs[1]) == "b: float32[2*batch+1, 4]"
    a, b = torch.randn(5, 4), torch.randn(11, 4)
    torch.testing.assert_close(answer(package, a, b), model(a, b))
    with pytest.raises(SignatureMismatch):
        answer(package, a, torch.randn(12, 4))


def test_inputs_that_share_a_dimension_must_agree(export, answer):
    batch = Dim("batch", min=1, max=8)
    shapes = {"a": {0: batch}, "b": {0: batch}}
    package = export(Pair().eval(), (X, X), dynamic_shapes=shapes)
    with pytest.raises(SignatureMismatch, match="but batch is 3 by 'a' axis 0"):
        answer(package, X, X[:2])


def test_dimensions_that_the_model_holds_equal_need_one_name(export, model_of):
    class Sum(nn.Module):
        def forward(self, a, b):
            return a + b

    shapes = {"a": {0: Dim("p", min=1, max=8)}, "b": {0: Dim("q", min=1, max=8)}}
    with pytest.raises(ParityInputsRequired, match="p=4, q=7"):
        export(Sum(), (X, X), dynamic_shapes=shapes)


def test_a_dimension_without_an_upper_bound_stays_open(export, answer):
    package = export(Affine().eval(), (X,), dynamic_shapes={"x": {0: Dim("batch")}})
    assert str(package.signature.dims[0]) == "batch in 1.."
    assert answer(package, torch.randn(1000, 4)).shape == (1000, 4)


def test_a_dimension_that_can_only_be_one_is_fixed(export):
    package = export(Affine().eval(), (X[:1],), dynamic_shapes={"x": {0: eipack.Dim("n", 1, 1)}})
    assert package.signature.dims == ()


def test_axes_may_count_from_the_end_and_shapes_come_by_position(export, batch):
    dim = Dim("batch", max=4)
    for shapes in ({"x": {-2: dim}}, ({0: dim},), [{0: dim, 1: None}], {"x": [dim, Dim.STATIC]}):
        package = export(Affine().eval(), (X,), dynamic_shapes=shapes)
        assert str(package.signature.inputs[0]) == "x: float32[batch, 4]"


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"y": {0: Dim("b")}}, "names 'y'; the inputs are x"),
        ({"x": {5: Dim("b")}}, "names axis 5; it has 2 axes"),
        ({"x": {0: "b"}}, "is no dimension"),
        ({"x": {0: 7}}, "fixes 'x' axis 0 at 7, the example has 3"),
        ({"x": {0: Dim("b", min=4, max=8)}}, "the example has b = 3, declared b in 4..8"),
        ({"x": {0: Dim("b", max=8), 1: Dim("b", max=9)}}, "declared as b in 1..8 and as b in 1..9"),
        ({"x": {0: Dim("b"), 1: Dim("b")}}, "has size 4 on axis 1"),
        (({}, {}), "2 items for 1 inputs"),
        (7, "dynamic_shapes is a int"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_declaration_that_makes_no_sense_is_explained(export, shapes, message):
    with pytest.raises(UnsupportedModel, match=message):
        export(Affine().eval(), (X,), dynamic_shapes=shapes)


@pytest.mark.parametrize(
    ("condition", "range_"),
    [
        (lambda n: n == 64, "min=1, max=63"),
        (lambda n: n > 40, "min=1, max=40"),
        (lambda n: n < 3, "min=3, max=64"),
        (lambda n: n == 10, "min=1, max=9"),
    ],
    ids=["the largest", "above", "below", "in the middle"],
)
def test_the_error_of_torch_export_names_the_range_that_would_do(
    export, model_of, batch, condition, range_
):
    model = model_of(lambda self, x: self.linear(x) * (2 if condition(x.shape[0]) else 1))
    with pytest.raises(CaptureFailed, match=rf"declare Dim\('batch', {range_}\)") as caught:
        export(model, (X,), method="export", dynamic_shapes=batch())
    assert "\n" not in str(caught.value)


def test_a_dimension_that_torch_export_fixes_is_said_to_be_fixed(export, model_of, batch):
    model = model_of(lambda self, x: self.linear(x) * (2 if x.shape[0] == 3 else 1))
    with pytest.raises(CaptureFailed, match=r"specialized it to be a constant \(3\)"):
        export(model, (X,), method="export", dynamic_shapes=batch(2, 8))


def test_what_became_of_automatic_dimensions_is_reported(export):
    told: list[str] = []
    shapes = {"x": {0: Dim.AUTO, 1: Dim.AUTO}}
    package = export(
        Affine().eval(), (X,), method="export", dynamic_shapes=shapes, progress=told.append
    )
    assert package.manifest.narrowed == (
        "x axis 0: declared automatic, x_0 with x_0 in 2..",
        "x axis 1: declared automatic, fixed at 4",
    )
    assert set(package.manifest.narrowed) < set(told)
    assert str(package.signature.inputs[0]) == "x: float32[x_0, 4]"


def test_automatic_dimensions_need_torch_export(export):
    with pytest.raises(MethodConflict, match=r"Dim\.AUTO"):
        export(Affine().eval(), (X,), method="trace", dynamic_shapes={"x": {0: Dim.AUTO}})


def test_an_output_size_that_follows_no_dimension_is_left_unknown(export, model_of, batch):
    package = export(
        model_of(lambda self, x: (self.linear(x).repeat(x.shape[0], 1), x[x[:, 0] > 0])),
        (X,),
        dynamic_shapes=batch(1, 8),
        programs="exported",
    )
    shown = [str(spec) for spec in package.signature.outputs]
    assert shown == ["output_0: float32[?, 4]", "output_1: float32[?, 4]"]
