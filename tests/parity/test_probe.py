"""Models that are no function of their inputs are refused, and told why in the right words."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn
from torch.nn import functional

import eipack
from eipack.capture.sources import open_reference
from eipack.errors import ModelInTrainingMode, NondeterministicModel, StatefulModel
from eipack.parity.probe import written_inputs

X = torch.linspace(-1, 1, 12).reshape(3, 4)


@pytest.mark.parametrize(
    "layer",
    [nn.Dropout(), nn.BatchNorm1d(4), nn.AlphaDropout(), nn.RReLU(), nn.SyncBatchNorm(4)],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_left_in_training_mode_are_named(layer):
    model = nn.Sequential(nn.Linear(4, 4), layer)
    with pytest.raises(ModelInTrainingMode, match=f"{type(layer).__name__} at '1'.*model.eval"):
        eipack.export(model, (X,))


def test_dropout_that_drops_nothing_is_no_trouble():
    assert eipack.export(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.0)), (X,)).programs


def test_a_model_whose_training_mode_changes_nothing_need_not_be_in_eval_mode():
    model = nn.Linear(4, 4)
    assert eipack.export(model, (X,)).programs
    assert model.training


def test_functional_dropout_is_blamed_on_training_mode(model_of):
    model = model_of(lambda self, x: functional.dropout(self.linear(x), 0.5, self.training)).train()
    with pytest.raises(ModelInTrainingMode, match="because the model is in training mode"):
        eipack.export(model, (X,))
    assert model.training


@pytest.mark.parametrize("training", [False, True])
def test_noise_in_every_mode_is_not_blamed_on_training_mode(model_of, training):
    model = model_of(lambda self, x: self.linear(x) + torch.randn(4)).train(training)
    with pytest.raises(NondeterministicModel, match="pass the noise as an input"):
        eipack.export(model, (X,))
    assert model.training is training


def test_dropout_that_is_always_on_is_named_random(model_of):
    with pytest.raises(NondeterministicModel):
        eipack.export(model_of(lambda self, x: functional.dropout(self.linear(x), 0.5)), (X,))


def remember(self, x):
    last = getattr(self, "last", torch.zeros(4))
    self.last = x.mean(0)
    return self.linear(x) + last


def count(self, x):
    self.calls = getattr(self, "calls", 0) + 1
    return self.linear(x) + self.calls


def grow(self, x):
    self.seen = [*getattr(self, "seen", []), x]
    return self.linear(x) + len(self.seen)


def wear_out(self, x):
    self.calls = getattr(self, "calls", 0) + 1
    return self.linear(x) + (self.calls > 4)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("function", [remember, count, grow, wear_out])
def test_memory_of_earlier_calls_is_found(model_of, function, training):
    with pytest.raises(StatefulModel, match="pass the state as an input and return it"):
        eipack.export(model_of(function).train(training), (X,))


class Buffered(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.register_buffer("state", torch.zeros(4))
        self.weight = nn.Parameter(torch.ones(4))
        self.states = [torch.zeros(4)]
        self.change = change

    def forward(self, x):
        self.change(self, x)
        return x * self.weight


def replace_buffer(self, x):
    self.state = self.state + 1


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda self, x: self.state.add_(1), "state"),
        (replace_buffer, "state"),
        (lambda self, x: self.states[0].add_(1), "states.0"),
        (lambda self, x: self.weight.data.mul_(1.0000001), "weight"),
    ],
    ids=["a buffer", "a replaced buffer", "a tensor in a list", "a parameter"],
)
def test_a_call_that_changes_a_tensor_of_the_model_is_found(change, name):
    model = Buffered(change).eval()
    before = model.state, model.state.clone(), model.weight.clone()
    with pytest.raises(StatefulModel, match=f"changes the model's own tensor '{name}'"):
        eipack.export(model, (X,))
    assert model.state is before[0]
    assert torch.equal(model.state, before[1])
    assert torch.equal(model.weight, before[2])


def test_batch_statistics_kept_by_hand_are_found():
    norm = nn.BatchNorm1d(4).eval()
    norm.forward = lambda x: functional.batch_norm(
        x, norm.running_mean, norm.running_var, training=True
    )
    with pytest.raises(StatefulModel, match="running_mean"):
        eipack.export(nn.Sequential(norm), (X,))


def keep_the_peak(self, x):
    self.state.copy_(torch.maximum(self.state, x.max(0).values))


@pytest.mark.parametrize("method", ["auto", "trace", "script", "export"])
def test_a_write_that_leaves_the_same_values_is_found(method):
    model = Buffered(keep_the_peak).eval()
    model.state += 100
    with pytest.raises(StatefulModel, match="'state'"):
        eipack.export(model, (X,), method=method)


@pytest.mark.parametrize("inference", [False, True])
def test_a_write_of_the_same_values_to_an_input_is_found(model_of, inference):
    with torch.inference_mode(inference):
        model, x = model_of(lambda self, x: self.linear(x.relu_())), X.abs()
        reference, _ = open_reference(model, (x,), None)
        assert written_inputs(reference) == {0}


@pytest.mark.parametrize(
    "noise", [lambda: 1e-9 * torch.randn(4), random.random], ids=["too small to see", "unused"]
)
def test_random_numbers_are_refused_even_if_the_answers_hide_them(model_of, noise):
    def forward(self, x):
        drawn = noise()
        return self.linear(x) + (drawn if isinstance(drawn, torch.Tensor) else 0)

    with pytest.raises(NondeterministicModel, match="remove the draw if nothing uses it"):
        eipack.export(model_of(forward), (X,))


def test_training_mode_is_named_first_for_random_numbers_too_small_to_see(model_of):
    def forward(self, x):
        return self.linear(x) + (1e-9 * torch.randn(4) if self.training else 0)

    with pytest.raises(ModelInTrainingMode, match="random numbers are drawn"):
        eipack.export(model_of(forward).train(), (X,))
