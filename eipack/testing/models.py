"""What a model of the zoo is, and how its inputs are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn

from eipack.tree import describe, unflatten

Inputs = tuple[Any, ...] | dict[str, Any]


class Draw:
    """Draw tensors from a seed."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def floats(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return normal values."""
        if dtype.is_complex:
            return torch.complex(self.floats(*shape), self.floats(*shape)).to(dtype)
        return torch.randn(shape, generator=self._generator).to(dtype)

    def integers(
        self, low: int, high: int, *shape: int, dtype: torch.dtype = torch.int64
    ) -> Tensor:
        """Return values from `low` to `high`, both included."""
        return torch.randint(low, high + 1, shape, generator=self._generator).to(dtype)

    def booleans(self, *shape: int) -> Tensor:
        """Return true and false, half of each."""
        return torch.arange(torch.Size(shape).numel()).remainder(2).bool().reshape(shape)


@frozen(eq=False, slots=False)
class ZooModel:
    """A small model and the calls it is tested with.

    `sizes` are those of its dynamic dimensions, the example's first, the bounds among
    them; `needs` is the capability without which a backend may refuse it.
    """

    name: str
    build: Callable[[], nn.Module]
    draw: Callable[..., Inputs]
    sizes: tuple[Mapping[str, int], ...] = ({},)
    dynamic_shapes: Mapping[str, Any] | None = None
    needs: str | None = None

    @cached_property
    def module(self) -> nn.Module:
        """The model in eval mode, its weights the same in every process."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(20)
            return self.build().eval()

    def inputs(self, seed: int = 0, sizes: Mapping[str, int] | None = None) -> Inputs:
        """Return the inputs of one call: arguments by position, or by keyword."""
        return self.draw(Draw(seed), **(self.sizes[0] if sizes is None else sizes))

    def calls(self) -> Iterator[Inputs]:
        """Give fresh inputs for each of the sizes, the example's sizes twice."""
        for seed, sizes in enumerate((self.sizes[0], *self.sizes), start=1):
            yield self.inputs(seed, sizes)

    def __call__(self, inputs: Inputs) -> Any:
        """Return a copy of the model's own answer; the inputs stay as they are."""
        with torch.no_grad():
            answer = call(self.module, copied(inputs))
        return mapped(answer, lambda tensor: tensor.detach().clone())

    def __repr__(self) -> str:
        return self.name


def call(function: Callable[..., Any], inputs: Inputs) -> Any:
    """Call a function with arguments by position, or by keyword."""
    return function(**inputs) if isinstance(inputs, dict) else function(*inputs)


def tensors(value: Any) -> list[Tensor]:
    """List the tensors in a nested value."""
    return describe(value, constants=True)[1]


def mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return a nested value with each tensor replaced."""
    tree, leaves, _ = describe(value, constants=True)
    return unflatten(tree, iter([function(leaf) for leaf in leaves]))


def copied(value: Any) -> Any:
    """Return a nested value with its tensors copied."""
    return mapped(value, torch.clone)
