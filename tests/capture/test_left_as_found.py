"""Whatever is exported, and however it ends, the model and the process are left as found.

The `export` fixture compares every attribute, tensor, flag and generator around each call.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.weight_norm import weight_norm

import eipack
from eipack.errors import CaptureError, NondeterministicModel, StatefulModel, UnsupportedModel

X = torch.linspace(-1, 1, 12).reshape(3, 4)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.out = nn.Linear(4, 10, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, ids):
        return self.out(self.embed(ids))


class Buffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("kept", torch.randn(4))
        self.register_buffer("hidden", torch.randn(4), persistent=False)
        self.register_buffer("absent", None)
        self.plain = torch.randn(4)
        self.listed = [torch.randn(4)]

    def forward(self, x):
        return x * self.kept + self.hidden + self.plain + self.listed[0]


class Counting(nn.Module):
    """Keeps books in Python, which change no answer."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.shapes = []
        self.cache = {}

    def forward(self, x):
        self.calls += 1
        self.shapes.append(x.shape)
        self.cache["last"] = x * 2
        return self.cache["last"] + 1


class Lazily(nn.Module):
    """Makes a table at its first call, as rotary embeddings do."""

    def __init__(self):
        super().__init__()
        self.table = None

    def forward(self, x):
        if self.table is None:
            self.table = torch.arange(4.0)
        return x + self.table


def hooked():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    model.register_forward_hook(lambda module, args, output: output * 2)
    model[0].register_forward_hook(lambda module, args, output: output - 1)
    return model


def frozen_in_part():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].weight.requires_grad_(False)
    model(X).sum().backward()
    return model


MODELS = {
    "tied weights": (Tied, (torch.tensor([[1, 2, 3]]),)),
    "buffers of all sorts": (Buffers, (X,)),
    "books kept in Python": (Counting, (X,)),
    "a table made at the first call": (Lazily, (X,)),
    "hooks": (hooked, (X,)),
    "gradients and frozen parts": (frozen_in_part, (X,)),
    "weight norm": (lambda: weight_norm(nn.Linear(4, 4)), (X,)),
    "parametrizations": (lambda: parametrizations.orthogonal(nn.Linear(4, 4)), (X,)),
    "batch norm": (lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), (X,)),
    "dynamic quantisation": (
        lambda: torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4))), (X,)),
    "operations in place": (lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4)), (X,)),
    "a script": (lambda: torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU())), (X,)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["auto", "trace", "script", "export"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_left_as_found_and_answered_for(export, answer, name, method):
    make, inputs = MODELS[name]
    model = make().eval()
    try:
        package = export(model, inputs, method=method)
    except CaptureError:
        assert method != "auto"  # one method always serves
        return
    torch.testing.assert_close(
        answer(package, *inputs), model(*[x.clone() for x in inputs]).detach()
    )


def test_training_flags_of_each_part_stay(export):
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 4))
    model[1].eval()
    export(model, (X,))
    assert [part.training for part in model] == [True, False, True]


@pytest.mark.parametrize("method", ["trace", "export"])
def test_a_package_never_writes_to_its_inputs_though_the_model_does(export, answer, method):
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4)).eval()
    sample, x = X.clone(), X.clone()
    package = export(model, (sample,), method=method)
    answer(package, x)
    assert torch.equal(sample, X)
    assert torch.equal(x, X)


def test_a_script_that_writes_to_its_inputs_is_refused(export):
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4)).eval()
    with pytest.raises(CaptureError, match="writes to its input 'input'"):
        export(model, (X,), method="script")


def test_a_module_that_is_not_initialised_is_refused(export):
    with pytest.raises(UnsupportedModel, match="call the model once"):
        eipack.export(nn.LazyLinear(4).eval(), (X,))


RANDOM = {
    "torch": lambda self, x: self.linear(x) + torch.rand(1),
    "numpy": lambda self, x: self.linear(x) + np.random.rand(),  # noqa: NPY002 - what models do
    "Python": lambda self, x: self.linear(x) + random.random(),
}


@pytest.mark.parametrize("function", RANDOM.values(), ids=RANDOM.keys())
def test_a_random_model_is_refused_and_the_generators_stay(export, model_of, function):
    with pytest.raises(NondeterministicModel):
        export(model_of(function), (X,))


def test_a_model_that_sets_seed_and_defaults_leaves_them_to_the_caller(export, model_of):
    def meddle(self, x):
        torch.manual_seed(1)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(True)
        return self.linear(x)

    export(model_of(meddle), (X,), method="trace")


class Statistics(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x):
        self.mean.mul_(0.9).add_(x.mean(0) * 0.1)
        return x - self.mean


def test_a_stateful_model_is_refused_with_its_state_as_it_was(export):
    with pytest.raises(StatefulModel, match="'mean'"):
        export(Statistics().eval(), (X,))


@pytest.mark.parametrize(
    "stage",
    [
        "function of its inputs",
        "across the declared range",
        "capturing",
        "checking the torchscript",
        "writing",
    ],
)
def test_ctrl_c_leaves_nothing_behind(export, monkeypatch, tmp_path, stage):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def interrupt(message: str) -> None:
        if stage in message:
            raise KeyboardInterrupt

    model = Counting().eval()
    with pytest.raises(KeyboardInterrupt):
        export(model, (X,), progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_the_package_is_written_leaves_nothing_behind(export, monkeypatch, tmp_path):
    def interrupt(*args, **kwargs):
        Path(args[0]).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("eipack.capture.exporting.write_package", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export(Counting().eval(), (X,))
    assert list(tmp_path.iterdir()) == []
