"""Dynamic dimensions, declared as torch.export declares them, for every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from attrs import frozen

from eipack.capture.examples import Examples
from eipack.errors import UnsupportedModel
from eipack.signature import Dim, DimSize, Size
from eipack.tree import Tree


@frozen
class Shapes:
    """The shape of each input with its dynamic sizes, and the dimensions they follow.

    `automatic` are the dimensions torch.export shall find the range of (`Dim.AUTO`).
    """

    dims: tuple[Dim, ...]
    inputs: tuple[tuple[Size, ...], ...]
    automatic: frozenset[str] = frozenset()

    def dim(self, name: str) -> Dim:
        """Return the dimension of that name."""
        return next(dim for dim in self.dims if dim.name == name)

    def sample_sizes(self, examples: Examples) -> dict[str, int]:
        """Return the value of each dimension in the examples.

        Raises:
            UnsupportedModel: The examples contradict each other or the declared range.
        """
        found: dict[str, int] = {}
        for name, leaf, shape in zip(examples.names, examples.leaves, self.inputs, strict=True):
            for axis, size in enumerate(shape):
                if not isinstance(size, DimSize):
                    continue
                value, rest = divmod(leaf.shape[axis] - size.offset, size.factor)
                if rest or found.setdefault(size.dim, value) != value:
                    raise UnsupportedModel(
                        f"example input {name!r} has size {leaf.shape[axis]} on axis {axis}, "
                        f"which does not agree with {size} elsewhere"
                    )
        return found

    def at(self, sizes: Mapping[str, int]) -> list[tuple[int, ...]]:
        """Return the concrete input shapes for given dimensions."""
        return [
            tuple(size.at(sizes) if isinstance(size, DimSize) else int(size or 0) for size in shape)
            for shape in self.inputs
        ]


def declare(dynamic_shapes: Any | None, examples: Examples) -> Shapes:
    """Read `dynamic_shapes` (a mapping by parameter, or a sequence by position).

    A lower bound of 0, torch's default, is taken as 1.

    Raises:
        UnsupportedModel: It names unknown parameters or axes, or two ranges for one name.
    """
    reader = _Reader()
    shapes = [tuple(int(n) for n in leaf.shape) for leaf in examples.leaves]
    result: list[tuple[Size, ...]] = []
    specs = _by_parameter(dynamic_shapes, examples)
    leaves = iter(zip(examples.names, shapes, strict=True))
    for key, tree in zip(examples.tree.keys, examples.tree.children, strict=True):
        reader.walk(tree, specs.get(str(key)), str(key), leaves, result)
    dims = tuple(reader.dims.values())
    return Shapes(dims, tuple(result), frozenset(reader.automatic))


def _by_parameter(dynamic_shapes: Any | None, examples: Examples) -> dict[str, Any]:
    names = [str(key) for key in examples.tree.keys]
    if dynamic_shapes is None:
        return {}
    if isinstance(dynamic_shapes, Mapping):
        unknown = [str(key) for key in dynamic_shapes if key not in names]
        if unknown:
            raise UnsupportedModel(
                f"dynamic_shapes names {unknown[0]!r}; the inputs are {', '.join(names)}"
            )
        return {str(key): value for key, value in dynamic_shapes.items()}
    if isinstance(dynamic_shapes, tuple | list):
        if len(dynamic_shapes) > len(names):
            raise UnsupportedModel(
                f"dynamic_shapes has {len(dynamic_shapes)} items for {len(names)} inputs"
            )
        return dict(zip(names, dynamic_shapes, strict=False))
    raise UnsupportedModel(
        f"dynamic_shapes is a {type(dynamic_shapes).__name__}; pass a dict by parameter name"
    )


def _no_container(spec: Any, name: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"dynamic_shapes of {name!r} is {spec!r}; pass a dict by axis, as {{0: Dim('batch')}}"
    )


class _Reader:
    def __init__(self) -> None:
        self.dims: dict[str, Dim] = {}
        self.automatic: set[str] = set()

    def walk(
        self, tree: Tree, spec: Any, path: str, leaves: Any, result: list[tuple[Size, ...]]
    ) -> None:
        if tree.kind == "tensor":
            name, shape = next(leaves)
            result.append(self._shape(spec, name, shape))
            return
        if spec is not None and not isinstance(spec, Mapping | tuple | list):
            raise _no_container(spec, path)
        labels: Sequence[str | int] = tree.keys or range(len(tree.children))
        for label, child in zip(labels, tree.children, strict=True):
            inner = None
            if isinstance(spec, Mapping):
                inner = spec.get(label)
            elif isinstance(spec, tuple | list) and isinstance(label, int) and label < len(spec):
                inner = spec[label]
            self.walk(child, inner, f"{path}.{label}", leaves, result)

    def _shape(self, spec: Any, name: str, shape: tuple[int, ...]) -> tuple[Size, ...]:
        if spec is None:
            return shape
        if not isinstance(spec, Mapping | tuple | list):
            raise _no_container(spec, name)
        by_axis = dict(spec) if isinstance(spec, Mapping) else dict(enumerate(spec))
        sizes: list[Size] = list(shape)
        for axis, dim in by_axis.items():
            if not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
                raise UnsupportedModel(
                    f"dynamic_shapes of {name!r} names axis {axis!r}; it has {len(shape)} axes"
                )
            sizes[axis] = self._size(dim, name, axis % len(shape), shape[axis])
        return tuple(sizes)

    def _size(self, dim: Any, name: str, axis: int, actual: int) -> Size:
        if dim is None or isinstance(dim, int) or _hint(dim) == "STATIC":
            if isinstance(dim, int) and dim != actual:
                raise UnsupportedModel(
                    f"dynamic_shapes fixes {name!r} axis {axis} at {dim}, the example has {actual}"
                )
            return actual
        if isinstance(dim, Dim) and dim.min == dim.max:
            return self._size(dim.min, name, axis, actual)
        if isinstance(dim, Dim):
            self._declare(dim)
            return DimSize(dim.name)
        if _hint(dim) is not None:
            label = f"{name.replace('.', '_')}_{axis}"
            self.automatic.add(label)
            self._declare(Dim(label, 1, None))
            return DimSize(label)
        root = getattr(dim, "root", None)
        if root is not None:
            self._declare(_read(root))
            return _linear(dim, str(root.__name__), name)
        self._declare(_read(dim))
        return DimSize(str(dim.__name__))

    def _declare(self, dim: Dim) -> None:
        known = self.dims.setdefault(dim.name, dim)
        if known != dim:
            raise UnsupportedModel(f"dimension {dim.name!r} is declared as {known} and as {dim}")


def _hint(dim: Any) -> str | None:
    kind = getattr(dim, "type", None)
    return str(kind.name) if type(dim).__name__ == "_DimHint" and kind is not None else None


def _read(dim: Any) -> Dim:
    name = getattr(dim, "__name__", None)
    if not isinstance(name, str) or not hasattr(dim, "min") or not hasattr(dim, "max"):
        raise UnsupportedModel(
            f"{dim!r} is no dimension; write torch.export.Dim('batch', min=1, max=64)"
        )
    top = dim.max if isinstance(dim.max, int) and dim.max < 2**31 else None
    return Dim(name, max(1, int(dim.min)), top)


def _linear(dim: Any, root: str, name: str) -> DimSize:
    offset = int(dim.fn(0))
    factor = int(dim.fn(1)) - offset
    if factor < 1 or int(dim.fn(2)) != 2 * factor + offset:
        raise UnsupportedModel(f"{name!r} has the size {dim.__name__}; only a*dim+b is possible")
    return DimSize(root, factor, offset)


def enlarge(examples: Examples, shapes: Shapes) -> Examples:
    """Repeat examples along dynamic axes of size 1, which torch.export would take as fixed.

    Each enlarged dimension gets a size of its own, so that no two look equal by accident.

    Raises:
        UnsupportedModel: A sample lies outside its declared range.
    """
    sizes = shapes.sample_sizes(examples)
    taken = set(sizes.values())
    for dim in shapes.dims:
        if not dim.admits(sizes[dim.name]):
            raise UnsupportedModel(
                f"the example has {dim.name} = {sizes[dim.name]}, declared {dim}"
            )
        if sizes[dim.name] == 1 and dim.max != 1:
            top = dim.max or 64
            sizes[dim.name] = next((n for n in range(2, top + 1) if n not in taken), 2)
            taken.add(sizes[dim.name])
    leaves = list(examples.leaves)
    for index, shape in enumerate(shapes.at(sizes)):
        for axis, size in enumerate(shape):
            if leaves[index].shape[axis] != size:
                source = torch.arange(size) % leaves[index].shape[axis]
                leaves[index] = leaves[index].index_select(axis, source)
    return examples.with_leaves(leaves)
