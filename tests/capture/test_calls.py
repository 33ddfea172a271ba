"""Every way to call a model, and everything it may return."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from eipack.errors import (
    CaptureFailed,
    ExampleInputsRequired,
    ParityInputsRequired,
    SignatureMismatch,
    UnsupportedModel,
)

X = torch.linspace(-1, 1, 12).reshape(3, 4)
Point = namedtuple("Point", "left right")  # noqa: PYI024 - untyped ones are as common


@dataclass
class Record:
    value: Tensor
    note: Tensor | None = None


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)


class Variadic(Base):
    def forward(self, *tensors):
        return self.linear(sum(tensors))


class Keywords(Base):
    def forward(self, **tensors):
        return self.linear(tensors["a"] - tensors["b"])


class Parameters(Base):
    def forward(self, a, /, b, *, c=None, twice=True, scale=2, mode="plus"):
        y = self.linear(a) + b if mode == "plus" else self.linear(a) - b
        y = y if c is None else y + c
        return y * scale if twice else y


class Nested(Base):
    def forward(self, data):
        first = self.linear(data["list"][0])
        return {"seen": [first, (data["point"].left, None)], "point": Point(first, data["own"])}


class Dataclass(Base):
    def forward(self, data):
        return Record(self.linear(data.value), data.note)


@pytest.mark.parametrize("method", ["trace", "export"])
@pytest.mark.parametrize(
    ("module", "args", "kwargs"),
    [
        (Variadic, (X, 2 * X), {}),
        (Keywords, (), {"a": X, "b": 2 * X}),
        (Keywords, (), {"b": X, "a": 2 * X}),
        (Parameters, (X,), {"b": X}),
        (Parameters, (X, X), {"c": X, "scale": 3}),
        (Parameters, (X, X), {"twice": False, "mode": "minus"}),
    ],
    ids=["*args", "**kwargs", "**kwargs in another order", "defaults", "constants", "flags"],
)
def test_a_call_of_any_form_is_packaged(export, answer, module, args, kwargs, method):
    model = module().eval()
    package = export(model, args, kwargs, method=method)
    torch.testing.assert_close(answer(package, *args, **kwargs), model(*args, **kwargs))


def test_constants_are_part_of_the_signature(export, answer):
    model = Parameters().eval()
    package = export(model, (X, X), {"scale": 3})
    torch.testing.assert_close(answer(package, X, X), model(X, X, scale=3))
    with pytest.raises(SignatureMismatch, match="the constant 3"):
        answer(package, X, X, scale=4)


@pytest.mark.parametrize("method", ["trace", "export"])
def test_nested_containers_come_back_as_they_were(export, answer, method):
    model = Nested().eval()
    data = {"list": [X], "point": Point(X, X), "own": X}
    package = export(model, (data,), method=method)
    result = answer(package, data)
    expected = model(data)
    assert type(result["point"]).__name__ == "Point"
    assert result["seen"][1][1] is None
    torch.testing.assert_close(result["seen"][0], expected["seen"][0])
    torch.testing.assert_close(result["point"].left, expected["point"].left)


@pytest.mark.parametrize("method", ["trace", "export"])
def test_dataclasses_give_attributes(export, answer, method):
    model = Dataclass().eval()
    package = export(model, (Record(X),), method=method)
    result = answer(package, Record(X))
    torch.testing.assert_close(result.value, model(Record(X)).value)
    assert result.note is None


def test_a_model_output_keeps_keys_attributes_and_fields_that_are_none(export, answer, model_of):
    model = model_of(lambda self, x: BaseModelOutput(self.linear(x), None, (x, x)))
    result = answer(export(model, (X,)), X)
    expected = model(X)
    assert list(result.keys()) == list(expected.keys())
    assert result.hidden_states is None
    torch.testing.assert_close(result.last_hidden_state, result[0])
    torch.testing.assert_close(result["last_hidden_state"], expected[0])
    assert len(result.attentions) == 2


def views(self, x):
    y = self.linear(x)
    return y, y[0], y.t(), y[:, 1:]


OUTPUTS = {
    "a tuple of one": lambda self, x: (self.linear(x),),
    "a list": lambda self, x: [self.linear(x), x],
    "an ordered dict": lambda self, x: OrderedDict(b=self.linear(x), a=x),
    "None among tensors": lambda self, x: (None, self.linear(x), None),
    "its own parameter": lambda self, x: (self.linear(x), self.linear.weight),
    "its input": lambda self, x: (x, self.linear(x)),
    "nothing but its input": lambda self, x: x,
    "the same tensor twice": lambda self, x: (self.linear(x),) * 2,
    "views of one tensor": views,
    "an expanded tensor": lambda self, x: self.linear(x)[:1].expand(5, 4),
    "a scalar": lambda self, x: self.linear(x).sum(),
    "an empty tensor": lambda self, x: (self.linear(x), x[:0]),
    "constants of its own": lambda self, x: (self.linear(x), torch.arange(3)),
    "some NaN and infinity": lambda self, x: self.linear(x) / (x.clamp(min=0)),
}


@pytest.mark.parametrize("method", ["trace", "export"])
@pytest.mark.parametrize("function", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_a_model_may_return(export, answer, model_of, function, method):
    model = model_of(function)
    result, expected = answer(export(model, (X,), method=method), X), model(X)
    assert type(result) is type(expected) or isinstance(result, dict)
    torch.testing.assert_close(
        result, type(result)(expected) if isinstance(result, dict) else expected, equal_nan=True
    )


DTYPES = [
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.complex64,
    torch.complex128,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


@pytest.mark.parametrize("method", ["trace", "export"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_outputs_of_every_dtype_are_packaged(export, answer, model_of, dtype, method):
    model = model_of(lambda self, x: (self.linear(x) * 3).to(dtype))
    result = answer(export(model, (X,), method=method), X)
    assert result.dtype is dtype
    torch.testing.assert_close(result, model(X))


@pytest.mark.parametrize("method", ["trace", "script", "export"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_inputs_and_weights_of_every_float_are_packaged(export, answer, dtype, method):
    model = nn.Linear(4, 4).to(dtype).eval()
    x = X.to(dtype)
    torch.testing.assert_close(answer(export(model, (x,), method=method), x), model(x))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda self, x: (self.linear(x), "text"), "a str at '1' cannot be packaged"),
        (lambda self, x: {"a": self.linear(x), "n": 3}, "a int at 'n' cannot be packaged"),
        (lambda self, x: 3, "a int cannot be packaged"),
        (lambda self, x: None, "returns no tensor"),
        (lambda self, x: self.linear(x).to_sparse(), "sparse or quantised"),
        (lambda self, x: (y for y in [x]), "a generator cannot be packaged"),
    ],
    ids=["text", "a number", "only a number", "None", "a sparse tensor", "a generator"],
)
def test_what_no_package_can_return_is_refused(export, model_of, function, message):
    with pytest.raises(UnsupportedModel, match=message):
        export(model_of(function), (X,))


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (None, ExampleInputsRequired, "no example inputs for Model"),
        ((), ExampleInputsRequired, "no example inputs for Model"),
        ((X, X), ExampleInputsRequired, "too many positional arguments"),
        ({"y": X}, ExampleInputsRequired, "do not fit Model.forward"),
        ((3,), ExampleInputsRequired, "hold no tensor"),
        ((X[:0],), ExampleInputsRequired, r"is empty \(0, 4\)"),
        ((X * float("nan"),), ParityInputsRequired, "holds NaN"),
        ((X.to_sparse(),), UnsupportedModel, "not a plain dense tensor"),
        ((X.to("meta"),), UnsupportedModel, "not a plain dense tensor"),
        ((object(),), UnsupportedModel, "a object at 'x' cannot be packaged"),
        (7, UnsupportedModel, "inputs is a int"),
        ((torch.randn(3, 5),), CaptureFailed, "the model fails on inputs of shape"),
    ],
    ids=[
        "none",
        "empty tuple",
        "too many",
        "unknown keyword",
        "no tensor",
        "empty batch",
        "NaN",
        "sparse",
        "meta",
        "an object",
        "a number",
        "wrong shape",
    ],
)
def test_example_inputs_that_do_not_do_are_explained(export, model_of, inputs, error, message):
    with pytest.raises(error, match=message):
        export(model_of(lambda self, x: self.linear(x)), inputs)


def test_a_sample_with_gradients_and_strides_is_taken_as_it_is(export, answer, model_of):
    model = model_of(lambda self, x: self.linear(x))
    leaf = torch.randn(4, 3, requires_grad=True)
    x = leaf.t()
    package = export(model, (x,))
    torch.testing.assert_close(answer(package, x.detach()), model(x).detach())
    assert leaf.grad is None


def test_a_lambda_inside_the_model_is_no_obstacle(export, answer):
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.activation = lambda x: x * 2

        def forward(self, x):
            return self.activation(x)

    model = nn.Sequential(nn.Linear(4, 4), Inner()).eval()
    torch.testing.assert_close(answer(export(model, (X,)), X), model(X))


def test_a_conjugated_buffer_is_one_like_any_other(export, answer):
    class Conjugated(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("wave", torch.randn(4, dtype=torch.complex64).conj())

        def forward(self, x):
            return (self.wave * x).imag

    model = Conjugated().eval()
    torch.testing.assert_close(answer(export(model, (X,)), X), model(X))
