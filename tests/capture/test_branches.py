"""A decision of the model's Python code never becomes a constant of a package unnoticed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from eipack.errors import CaptureFailed, ParityError, TracedBranch

X = torch.linspace(-1, 1, 12).reshape(3, 4)


def decide(condition):
    return lambda self, x: self.linear(x) * (2 if condition(x) else 1)


def decide_silently(self, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return self.linear(x) * (2 if x.shape[0] == 5 else 1)


ON_SIZE = {
    "shape": decide(lambda x: x.shape[0] == 5),
    "whole shape": decide(lambda x: x.shape == (5, 4)),
    "len": decide(lambda x: len(x) == 5),
    "int of size": decide(lambda x: int(x.size(0)) == 5),
    "numel": decide(lambda x: x.numel() == 20),
    "range": decide(lambda x: x.shape[0] > 40),
    "remainder": decide(lambda x: x.shape[0] % 8 == 0),
    "the smallest": decide(lambda x: x.shape[0] == 1),
    "the largest": decide(lambda x: x.shape[0] == 64),
    "numpy shape": decide(lambda x: x.numpy().shape[0] == 5),
    "dlpack": decide(lambda x: np.from_dlpack(x).shape[0] == 5),
    "text": decide(lambda x: f"{x.shape[0]}" == "5"),
    "text of the shape": decide(lambda x: str(tuple(x.shape)) == "(5, 4)"),
    "stride": decide(lambda x: x.t().contiguous().stride(0) == 5),
    "nbytes": decide(lambda x: x.nbytes == 80),
    "storage": decide(lambda x: x.untyped_storage().nbytes() == 80),
    "dict": lambda self, x: self.linear(x) * {5: 2}.get(x.shape[0], 1),
    "set": decide(lambda x: x.shape[0] in {5, 6}),
    "list of rows": decide(lambda x: len(x.unbind(0)) == 5),
    "list of parts": decide(lambda x: len(x.split(1)) == 5),
    "iteration": decide(lambda x: len(list(x)) == 5),
    "with warnings switched off": decide_silently,
}

ON_DATA = {
    "sum": decide(lambda x: x.sum() > 0),
    "rare value": decide(lambda x: x.max() > 1e6),
    "item": decide(lambda x: x[0, 0].item() > 0),
    "tolist": decide(lambda x: x.tolist()[0][0] > 0),
    "numpy": decide(lambda x: x.numpy().sum() > 0),
    "equal": decide(lambda x: torch.equal(x, x.abs())),
    "allclose": decide(lambda x: torch.allclose(x, x.abs())),
    "how many": decide(lambda x: x[x > 0].shape[0] > 3),
    "length of a list": decide(lambda x: len(x[x > 0].unbind(0)) > 5),
    "length of parts": decide(lambda x: len(x[x > 0].split(1)) > 5),
    "value in the result": lambda self, x: self.linear(x) * float(x[0, 0]),
}


@pytest.mark.parametrize("function", ON_SIZE.values(), ids=ON_SIZE.keys())
def test_a_trace_never_hides_a_decision_on_a_size(export, model_of, batch, function):
    with pytest.raises(TracedBranch, match="allow_traced_branches=True"):
        export(model_of(function), (X,), method="trace", dynamic_shapes=batch())


@pytest.mark.parametrize("function", ON_DATA.values(), ids=ON_DATA.keys())
def test_a_trace_never_hides_a_decision_on_values(export, model_of, function):
    with pytest.raises((TracedBranch, ParityError)):
        export(model_of(function), (X,), method="trace")


@pytest.mark.parametrize("function", ON_SIZE.values(), ids=ON_SIZE.keys())
def test_an_allowed_decision_on_a_size_holds_for_the_tested_sizes_only(
    export, answer, model_of, batch, function
):
    model = model_of(function)
    try:
        package = export(
            model, (X,), method="trace", dynamic_shapes=batch(), allow_traced_branches=True
        )
    except (TracedBranch, ParityError):
        return  # numpy hides whether it was asked for sizes or for values
    (dim,) = package.signature.dims
    assert package.manifest.narrowed == (str(dim),)
    assert 5 not in dim.sizes
    for size in dim.sizes:
        x = torch.randn(size, 4)
        torch.testing.assert_close(answer(package, x), model(x))


@pytest.mark.parametrize("function", ON_DATA.values(), ids=ON_DATA.keys())
def test_a_decision_on_values_is_refused_even_if_branches_are_allowed(export, model_of, function):
    with pytest.raises((TracedBranch, ParityError)):
        export(model_of(function), (X,), method="trace", allow_traced_branches=True)


# torch.export gives the text of a symbol for that of a size; docs/howto/parity.md says so.
SEEN_BY_EXPORT = {name: function for name, function in ON_SIZE.items() if "text" not in name}


@pytest.mark.parametrize("function", SEEN_BY_EXPORT.values(), ids=SEEN_BY_EXPORT.keys())
def test_export_proves_or_refuses_a_decision_on_a_size(export, answer, model_of, batch, function):
    model = model_of(function)
    try:
        package = export(model, (X,), method="export", dynamic_shapes=batch())
    except (CaptureFailed, ParityError):
        return
    for size in (1, 2, 3, 5, 8, 40, 41, 64):
        x = torch.randn(size, 4)
        torch.testing.assert_close(answer(package, x), model(x))


def test_a_branch_on_a_size_keeps_the_sizes_that_agree(export, model_of, batch):
    model = model_of(decide(lambda x: x.shape[0] == 4))
    package = export(
        model, (X,), method="trace", dynamic_shapes=batch(1, 6), allow_traced_branches=True
    )
    assert package.signature.dim("batch").sizes == (1, 2, 3, 5, 6)


def test_several_dynamic_dimensions_are_narrowed_to_the_examples(export, model_of):
    package = export(
        model_of(lambda self, x: x * (2 if x.shape[0] == 5 else 1)),
        (X,),
        method="trace",
        dynamic_shapes={"x": {0: torch.export.Dim("a", max=8), 1: torch.export.Dim("b", max=8)}},
        allow_traced_branches=True,
    )
    assert [dim.sizes for dim in package.signature.dims] == [(3,), (4,)]


class Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.LSTM(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


def test_auto_prefers_a_script_that_is_whole_to_a_trace_that_is_narrow(export, batch):
    package = export(
        Recurrent().eval(),
        (X[:, None],),
        dynamic_shapes=batch(),
        allow_traced_branches=True,
    )
    assert package.programs[0].method == "script"
    assert package.manifest.narrowed == ()


def test_programs_of_every_method_obey_a_narrowed_signature(export, model_of, batch):
    package = export(
        model_of(decide(lambda x: x.shape[0] > 100)),
        (X,),
        method=("export", "trace"),
        dynamic_shapes=batch(1, 64),
        allow_traced_branches=True,
    )
    sizes = package.signature.dim("batch").sizes
    assert [program.method for program in package.programs] == ["export", "trace"]
    for evidence in package.manifest.evidence:
        assert {check.dims["batch"] for check in evidence.checks} == set(sizes)


def test_a_size_that_torch_export_sets_apart_is_tested_too(export, model_of, batch):
    """Nothing warns of a slice that stops at the end of a table, and nothing is wrong with it."""
    table = torch.linspace(0, 1, 40)[:, None]
    package = export(
        model_of(lambda self, x: self.linear(x) + table[: x.shape[0]]),
        (X,),
        method="trace",
        dynamic_shapes=batch(1, 40),
    )
    assert package.manifest.narrowed == ()
    assert package.signature.dim("batch").max == 40


def test_values_that_stay_in_tensors_are_no_decision(export, model_of):
    def forward(self, x):
        return torch.cat((self.linear(x) * x[x > 0].sum()).split(2, -1))

    assert export(model_of(forward), (X,), method="trace").programs


def test_the_message_names_the_line_of_the_model(export, model_of):
    with pytest.raises(TracedBranch, match=r"test_branches\.py:\d+") as caught:
        export(model_of(ON_SIZE["shape"]), (X,), method="trace")
    assert len(caught.value.places) == 1
