"""The models that a capability adds; without it a backend may refuse them."""

# ruff: noqa: D101, D102 - a model is described by its name and its five lines

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from eipack.testing.models import Draw, Inputs, ZooModel
from eipack.testing.zoo_core import Attention, Perceptron

OPTIONAL: list[ZooModel] = []


def _add(
    needs: str,
    name: str,
    build: Callable[[], nn.Module],
    draw: Callable[..., Inputs],
    sizes: tuple[Mapping[str, int], ...] = ({},),
    dynamic_shapes: Mapping[str, Any] | None = None,
) -> None:
    OPTIONAL.append(ZooModel(name, build, draw, sizes, dynamic_shapes, needs))


def _batch(draw: Draw, batch: int) -> Inputs:
    return (draw.floats(batch, 4),)


def _sequence(draw: Draw, batch: int, length: int) -> Inputs:
    return (draw.floats(batch, length, 8),)


_add(
    "dynamic_shapes",
    "dynamic_batch",
    Perceptron,
    _batch,
    ({"batch": 3}, {"batch": 1}, {"batch": 5}, {"batch": 8}),
    {"x": {0: Dim("batch", min=1, max=8)}},
)
_add(
    "dynamic_shapes",
    "dynamic_sequence",
    Attention,
    _sequence,
    (
        {"batch": 2, "length": 5},
        {"batch": 1, "length": 2},
        {"batch": 4, "length": 16},
        {"batch": 1, "length": 16},
    ),
    {"x": {0: Dim("batch", min=1, max=4), 1: Dim("length", min=2, max=16)}},
)


class Joined(nn.Module):
    """Two inputs that share a dimension, and an output twice as long."""

    def forward(self, a: Tensor, b: Tensor) -> Any:
        return torch.cat([a, b]), (a * b).reshape(-1), a.mean(0)


_rows = Dim("rows", min=2, max=9)
_add(
    "dynamic_shapes",
    "dynamic_joined",
    Joined,
    lambda d, rows: (d.floats(rows, 3), d.floats(rows, 3)),
    ({"rows": 4}, {"rows": 2}, {"rows": 9}),
    {"a": {0: _rows}, "b": {0: _rows}},
)


def _cast(dtype: torch.dtype) -> Callable[[], nn.Module]:
    return lambda: Perceptron().to(dtype)


for _dtype in (torch.float16, torch.bfloat16, torch.float64):
    _name = str(_dtype).removeprefix("torch.")
    _add(
        _name,
        f"perceptron_{_name}",
        _cast(_dtype),
        lambda d, _dtype=_dtype: (d.floats(3, 4, dtype=_dtype),),
    )


class Waves(nn.Module):
    phase: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("phase", torch.randn(4, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Any:
        turned = x * self.phase
        return turned, turned.abs()


_add("complex64", "waves", Waves, lambda d: (d.floats(3, 4, dtype=torch.complex64),))


class Bytes(nn.Module):
    def forward(self, a: Tensor, b: Tensor, c: Tensor) -> Any:
        return a + 1, b // 2, c * 2


_add(
    "small_integers",
    "small_integers",
    Bytes,
    lambda d: (
        d.integers(0, 99, 2, 3, dtype=torch.uint8),
        d.integers(-9, 9, 2, 3, dtype=torch.int8),
        d.integers(-9, 9, 2, 3, dtype=torch.int16),
    ),
)


class Emptied(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x[:, :0], x + 1


_add("empty_outputs", "empty_outputs", Emptied, lambda d: (d.floats(2, 3),))


class Selected(nn.Module):
    """The size of an output depends on the values of the input."""

    def forward(self, x: Tensor) -> Any:
        return x[x > 0], x.sum()


_add("data_dependent_shapes", "selected", Selected, lambda d: (d.floats(4, 5),))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(4, 5, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Any:
        steps, (hidden, cell) = self.cells(x)
        return steps, hidden, cell


_add("lstm", "lstm", Recurrent, lambda d: (d.floats(2, 3, 4),))
