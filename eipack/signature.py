"""Names, dtypes, shapes and nesting of a package's inputs and outputs.

The signature is enforced on every call, whatever the backend: programs drop
their guards (a program exported for batches of 2 and more runs a batch of 1
without a word), so nothing but this check keeps a call within what was proved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from eipack.errors import SignatureMismatch
from eipack.tree import Tree, unflatten


@frozen
class Dim:
    """A named dynamic dimension, `min` to `max` inclusive (`max=None`: no upper bound).

    `sizes`, where given, are the only sizes allowed: those that were tested.
    """

    name: str
    min: int
    max: int | None
    sizes: tuple[int, ...] | None = None

    def admits(self, size: int) -> bool:
        """Tell whether a size lies within the range."""
        if self.sizes is not None:
            return size in self.sizes
        return self.min <= size and (self.max is None or size <= self.max)

    def __str__(self) -> str:
        if self.sizes is not None:
            return f"{self.name} in {{{', '.join(map(str, self.sizes))}}}"
        return f"{self.name} in {self.min}..{'' if self.max is None else self.max}"


@frozen
class DimSize:
    """A size that follows a named dimension: `factor * dim + offset`."""

    dim: str
    factor: int = 1
    offset: int = 0

    def at(self, sizes: Mapping[str, int]) -> int:
        """Return the size for given values of the dimensions."""
        return self.factor * sizes[self.dim] + self.offset

    def __str__(self) -> str:
        factor = "" if self.factor == 1 else f"{self.factor}*"
        offset = f"{self.offset:+d}" if self.offset else ""
        return f"{factor}{self.dim}{offset}"


Size = int | DimSize | None
"""A fixed size, one that follows a dimension, or (outputs only) one not known beforehand."""


@frozen
class TensorSpec:
    """One input or output tensor; `dtype` is torch's name without the prefix (`float32`)."""

    name: str
    dtype: str
    shape: tuple[Size, ...]

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name}: {self.dtype}[{sizes}]"


@frozen
class Signature:
    """What a call takes and what it gives.

    `input_tree` is a dict of the model's parameters in order, of which the first
    `positional` were passed by position; `output_tree` nests the outputs.
    """

    dims: tuple[Dim, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    input_tree: Tree
    output_tree: Tree
    positional: int

    def dim(self, name: str) -> Dim:
        """Return the dynamic dimension of that name."""
        return next(dim for dim in self.dims if dim.name == name)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Assign a call's arguments to the parameters; constants may be left out.

        Raises:
            SignatureMismatch: Too many, unknown, doubled or missing arguments.
        """
        names = [str(key) for key in self.input_tree.keys]
        if len(args) > len(names):
            raise SignatureMismatch(
                f"{len(args)} positional arguments given, at most {len(names)} expected: "
                f"{', '.join(names)}"
            )
        bound = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names:
                raise SignatureMismatch(
                    f"unknown argument {name!r}; this package takes {', '.join(names)}"
                )
            if name in bound:
                raise SignatureMismatch(f"argument {name!r} given twice")
            bound[name] = value
        for name, tree in zip(names, self.input_tree.children, strict=True):
            if name not in bound:
                if tree.kind not in ("constant", "none"):
                    raise SignatureMismatch(f"argument {name!r} is missing")
                bound[name] = tree.value
        return bound

    def arguments(self, bound: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Split bound arguments into the positional and keyword ones of the model's own call."""
        names = [str(key) for key in self.input_tree.keys]
        first = tuple(bound[name] for name in names[: self.positional])
        return first, {name: bound[name] for name in names[self.positional :]}

    def nest(self, leaves: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return flat tensors as the arguments of the model's own call."""
        return self.arguments(unflatten(self.input_tree, iter(leaves)))
