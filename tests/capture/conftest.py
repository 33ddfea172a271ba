"""What the tests of capture share: a model from one function, and an export that is watched."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import eipack


class Model(nn.Module):
    """A linear layer and a function that says what to do with it and the inputs."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


@pytest.fixture
def model_of() -> Callable[[Callable[..., Any]], nn.Module]:
    return lambda function: Model(function).eval()


@pytest.fixture
def batch() -> Callable[..., dict[str, dict[int, Any]]]:
    return lambda low=1, high=64: {"x": {0: torch.export.Dim("batch", min=low, max=high)}}


def process_state() -> dict[str, Any]:
    return {
        "torch rng": torch.get_rng_state().tolist(),
        "python rng": random.getstate(),
        "numpy rng": str(np.random.get_state()),  # noqa: NPY002 - the global generator is meant
        "gradients": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "filters": list(warnings.filters),
    }


def model_state(model: nn.Module) -> dict[str, Any]:
    """Describe a Python module to the last attribute, by value and by identity."""
    state: dict[str, Any] = {}
    for name, part in model.named_modules():
        attributes = vars(part) if not isinstance(part, torch.jit.ScriptModule) else {}
        state[f"{name}: attributes"] = {key: id(value) for key, value in attributes.items()}
        for key, value in attributes.items():
            if isinstance(value, dict | list | set):
                state[f"{name}.{key}"] = copy.copy(value) if key[0] != "_" else list(value)
        state[f"{name}: training"] = getattr(part, "training", None)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        data = tensor.detach()
        value = str(data)
        if not data.is_quantized:
            wide = torch.complex128 if data.is_complex() else torch.float64
            value = data.cpu().resolve_conj().to(wide).numpy().tobytes()
        state[name] = (id(tensor), tensor.requires_grad, id(tensor.grad), tensor.device, value)
    return state


@contextmanager
def left_as_found(model: Any) -> Iterator[None]:
    """Require that nothing of the model or the process has changed at the end."""
    module = model if isinstance(model, nn.Module) else nn.Identity()
    before = model_state(module), process_state()
    try:
        yield
    finally:  # a failing export must leave no more behind than one that works
        for then, now in zip(before, (model_state(module), process_state()), strict=True):
            changed = {key for key in then.keys() | now.keys() if then.get(key) != now.get(key)}
            assert changed == set()


@pytest.fixture
def export(capfd: pytest.CaptureFixture[str]) -> Callable[..., eipack.Package]:
    """Give `eipack.export`, watched: silent, and leaving model and process as found."""

    def watched(model: Any, *args: Any, **options: Any) -> eipack.Package:
        capfd.readouterr()
        try:
            with left_as_found(model):
                return eipack.export(model, *args, **options)
        finally:
            noise = capfd.readouterr()
            assert noise.err == ""
            assert noise.out == ""

    return watched


@pytest.fixture
def answer() -> Callable[..., Any]:
    """Run a package on the CPU."""

    def run(package: eipack.Package, *args: Any, **kwargs: Any) -> Any:
        with eipack.load(package, target="cpu") as session:
            return session(*args, **kwargs)

    return run
