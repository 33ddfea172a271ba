"""The models that every backend runs, whatever it declares."""

# ruff: noqa: D101, D102 - a model is described by its name and its five lines

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from eipack.testing.models import Draw, Inputs, ZooModel

CORE: list[ZooModel] = []


def _model(name: str, draw: Callable[[Draw], Inputs]) -> Callable[[type[nn.Module]], Any]:
    def add(build: type[nn.Module]) -> type[nn.Module]:
        CORE.append(ZooModel(name, build, draw))
        return build

    return add


@_model("perceptron", lambda d: (d.floats(3, 4),))
class Perceptron(nn.Module):
    """The plainest model there is."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.second = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        return self.second(functional.relu(self.first(x)))


@_model("several_inputs_and_outputs", lambda d: (d.floats(2, 3), d.floats(2, 3), d.floats(3)))
class Several(nn.Module):
    """Outputs of equal shape, so that only their values tell them apart."""

    def forward(self, a: Tensor, b: Tensor, scale: Tensor) -> Any:
        return a * scale + b, a - b, (a * b).sum(1)


@_model("unused_input", lambda d: (d.floats(2, 3), d.floats(5), d.floats(2, 3)))
class UnusedInput(nn.Module):
    def forward(self, x: Tensor, unused: Tensor, y: Tensor) -> Any:
        return x - 2 * y


@_model(
    "nested",
    lambda d: ({"left": d.floats(2, 3), "right": [d.floats(2, 3), d.floats(3)]}, d.floats(1)),
)
class Nested(nn.Module):
    def forward(self, batch: dict[str, Any], offset: Tensor) -> Any:
        first, second = batch["right"]
        total = batch["left"] + first * second
        return {"total": total, "parts": (first + offset, [second, total.sum()])}


Pair = namedtuple("Pair", ["low", "high"])  # noqa: PYI024 - its outputs are tensors of any kind


@_model("named_outputs", lambda d: (d.floats(2, 5),))
class NamedPair(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return Pair(x.clamp(max=0), x.clamp(min=0))


@_model("keywords", lambda d: {"x": d.floats(2, 3), "bias": d.floats(3), "factor": 3.0})
class Keywords(nn.Module):
    def forward(self, x: Tensor, *, bias: Tensor, factor: float = 2.0) -> Any:
        return x * factor + bias


@_model("integers", lambda d: (d.integers(-9, 9, 2, 3), d.integers(1, 5, 2, 3, dtype=torch.int32)))
class Integers(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Any:
        return a * 2 + b, b - 1, a.sum(1)


@_model("booleans", lambda d: (d.floats(2, 4), d.booleans(2, 4)))
class Booleans(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Any:
        return (x > 0) & mask, torch.where(mask, x, -x)


@_model("scalars", lambda d: (d.floats(2, 3), d.floats()))
class Scalars(nn.Module):
    def forward(self, x: Tensor, factor: Tensor) -> Any:
        return x.mean() * factor, x + factor


class _WithTensors(nn.Module):
    offsets: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3))
        self.register_buffer("offsets", torch.randn(2, 3), persistent=False)


@_model("constants", lambda d: (d.floats(2, 3),))
class Constants(_WithTensors):
    """A buffer that state dicts lack, a tensor made in the graph, and one written into it."""

    def forward(self, x: Tensor) -> Any:
        return x + self.offsets + torch.arange(3) * torch.tensor([0.5, 1.0, 2.0])


@_model("returns_parameter", lambda d: (d.floats(2, 3),))
class ReturnsParameter(_WithTensors):
    def forward(self, x: Tensor) -> Any:
        return x * self.weight, self.weight, self.offsets.t()


@_model("returns_input", lambda d: (d.floats(2, 3),))
class ReturnsInput(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x, x * 2, x.t()


@_model("same_output_twice", lambda d: (d.floats(2, 3),))
class SameTwice(nn.Module):
    def forward(self, x: Tensor) -> Any:
        y = x * 2
        return y, y


@_model("writes_in_place", lambda d: (d.floats(2, 3),))
class InPlace(nn.Module):
    """It writes to what it made itself, never to its input or its weights."""

    def forward(self, x: Tensor) -> Any:
        y = x * 2
        y[:, 0] = 1.0
        return y.add_(1).relu_()


@_model("tied_weights", lambda d: (d.integers(0, 10, 2, 3),))
class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Any:
        return self.head(self.embedding(tokens))


@_model("embedding", lambda d: (d.integers(0, 6, 2, 5), d.booleans(2, 5)))
class Embedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)

    def forward(self, tokens: Tensor, mask: Tensor) -> Any:
        return (self.table(tokens) * mask.unsqueeze(-1)).sum(1)


@_model("convolution", lambda d: (d.floats(2, 3, 8, 8),))
class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.norm.running_mean = torch.randn(4)
        self.norm.running_var = torch.rand(4) + 0.5

    def forward(self, image: Tensor) -> Any:
        features = functional.relu(self.norm(self.convolution(image)))
        return functional.max_pool2d(features, 2).flatten(1)


@_model("channels_last", lambda d: (d.floats(2, 3, 6, 6).to(memory_format=torch.channels_last),))
class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        weight = self.convolution.weight.to(memory_format=torch.channels_last)
        self.convolution.weight = nn.Parameter(weight)

    def forward(self, image: Tensor) -> Any:
        return self.convolution(image)


@_model("attention", lambda d: (d.floats(2, 5, 8),))
class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.mixing = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Any:
        query, key, value = self.mixing(self.norm(x)).chunk(3, dim=-1)
        scores = query @ key.transpose(1, 2) / 8**0.5
        mixed = scores.softmax(-1) @ value
        return x + self.out(functional.gelu(mixed))


@_model("heavy", lambda d: (d.floats(2, 1024),))
class Heavy(nn.Module):
    """Four MiB of weights, so that what is not given back is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1024, 1024, bias=False)

    def forward(self, x: Tensor) -> Any:
        return self.linear(x)
