"""LSTMs on `cpu+onednn`: which are packed, and that they answer as before."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from eipack_cpu.graphs import frozen_module
from eipack_cpu.rewriting import Choices, rewrite
from torch import Tensor, nn

from eipack.capture.torchscript import from_exported

X = torch.randn(3, 7, 6, generator=torch.Generator().manual_seed(1))
STATE = tuple(
    torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(seed)) for seed in (2, 3)
)


class WithState(nn.Module):
    """An LSTM that is given its state, as one that goes through a text piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 5, num_layers=2)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> Any:
        return self.lstm(x, (hidden, cell))


def rewritten(model: nn.Module, inputs: tuple[Tensor, ...], *, static: bool = True) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The tensor attributes self")
        exported = torch.export.export(model, inputs)
    module = frozen_module(from_exported(exported))
    zeros = tuple(torch.zeros_like(one) for one in inputs)
    rewrite(module.graph, zeros, Choices(), static=static)
    return module


def operators(module: Any) -> list[str]:
    return [node.kind() for node in module.graph.nodes()]


def flat(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [one for part in result for one in flat(part)]


@pytest.mark.parametrize(
    "form",
    [{}, {"num_layers": 2}, {"batch_first": True}, {"num_layers": 2, "bidirectional": True}],
    ids=["one layer", "two layers", "batch first", "both directions"],
)
def test_an_lstm_is_packed_and_answers_as_before(form: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = nn.LSTM(6, 5, **form).eval()
    module = rewritten(model, (X,))
    layers = form.get("num_layers", 1) * (2 if form.get("bidirectional") else 1)
    assert operators(module).count("aten::mkldnn_rnn_layer") == layers
    assert "aten::lstm" not in operators(module)
    with torch.inference_mode():
        for expected, actual in zip(flat(model(X)), flat(module(X)), strict=True):
            torch.testing.assert_close(actual, expected)


def test_a_state_that_is_given_is_used() -> None:
    torch.manual_seed(0)
    model = WithState().eval()
    module = rewritten(model, (X, *STATE))
    assert "aten::mkldnn_rnn_layer" in operators(module)
    with torch.inference_mode():
        for expected, actual in zip(flat(model(X, *STATE)), flat(module(X, *STATE)), strict=True):
            torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("form", [{"proj_size": 4}, {"bias": False}])
def test_an_lstm_of_another_form_is_left_as_it_is(form: dict[str, Any]) -> None:
    module = rewritten(nn.LSTM(6, 5, **form).eval(), (X,))
    assert "aten::lstm" in operators(module)


def test_where_sizes_change_from_call_to_call_nothing_is_packed() -> None:
    module = rewritten(nn.LSTM(6, 5).eval(), (X,), static=False)
    assert "aten::lstm" in operators(module)
