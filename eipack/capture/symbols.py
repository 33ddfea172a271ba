"""Dynamic dimensions as torch.export has them: declared to it, and read back from a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from attrs import evolve, frozen

from eipack.capture.dims import Shapes
from eipack.capture.examples import Examples
from eipack.errors import CaptureFailed, UnsupportedModel
from eipack.signature import Dim, DimSize, Size

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_UNBOUNDED = 2**31


@frozen
class Symbol:
    """A size `factor * symbol + offset`, and the range of the symbol."""

    name: str
    factor: int
    offset: int
    low: int
    high: int | None


def torch_dims(shapes: Shapes, identifiers: Sequence[str]) -> dict[str, dict[int, Any]] | None:
    """Return the shapes as `dynamic_shapes` of torch.export for a flat call."""
    if not shapes.dims:
        return None
    roots: dict[str, Any] = {}
    for dim in shapes.dims:
        if dim.name in shapes.automatic:
            roots[dim.name] = torch.export.Dim.AUTO
        else:
            top = {} if dim.max is None else {"max": dim.max}
            roots[dim.name] = torch.export.Dim(_identifier(dim.name), min=dim.min, **top)
    return {
        identifier: {
            axis: _torch_dim(size, roots)
            for axis, size in enumerate(shape)
            if isinstance(size, DimSize)
        }
        for identifier, shape in zip(identifiers, shapes.inputs, strict=True)
    }


def _identifier(name: str) -> str:
    return (
        name if name.isidentifier() else "dim_" + "".join(c if c.isalnum() else "_" for c in name)
    )


def _torch_dim(size: DimSize, roots: Mapping[str, Any]) -> Any:
    dim = roots[size.dim]
    if size.factor != 1:
        dim = size.factor * dim
    return dim + size.offset if size.offset else dim


def achieved(program: ExportedProgram, shapes: Shapes, names: Sequence[str]) -> Shapes:
    """Return the shapes with automatic dimensions settled as torch.export found them.

    Raises:
        CaptureFailed: A declared dimension became fixed, or its range narrower.
    """
    found = _sizes(program)
    result = _settle(shapes, found)
    for name, shape, actual in zip(names, result.inputs, found, strict=True):
        for axis, size in enumerate(shape):
            if isinstance(size, DimSize):
                _require(f"{name!r} axis {axis}", size, actual[axis], result.dim(size.dim))
    return result


def shapes_of(program: ExportedProgram, examples: Examples) -> Shapes:
    """Read the dynamic dimensions of a program that was exported elsewhere."""
    inputs: list[tuple[Size, ...]] = []
    labels: list[str] = []
    for name, sizes in zip(examples.names, _sizes(program), strict=True):
        shape: list[Size] = []
        for axis, size in enumerate(sizes):
            if isinstance(size, Symbol):
                labels.append(f"{name.replace('.', '_')}_{axis}")
                shape.append(DimSize(labels[-1]))
            else:
                shape.append(size)
        inputs.append(tuple(shape))
    dims = tuple(Dim(label, 1, None) for label in labels)
    return achieved(program, Shapes(dims, tuple(inputs), frozenset(labels)), examples.names)


def _sizes(program: ExportedProgram) -> list[list[int | Symbol]]:
    """Return the size of each axis of each input tensor."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    wanted = [name for name in program.graph_signature.user_inputs if isinstance(name, str)]
    values = [nodes[name].meta["val"] for name in wanted]
    return [
        [_size(program, size) for size in value.shape]
        for value in values
        if isinstance(value, torch.Tensor)
    ]


def _size(program: ExportedProgram, size: Any) -> int | Symbol:
    expression = size if isinstance(size, int) else size.node.expr
    if isinstance(expression, int) or expression.is_number:
        return int(expression)
    symbols = list(expression.free_symbols)
    factor = expression.diff(symbols[0]) if len(symbols) == 1 else None
    if factor is None or not factor.is_Integer or factor < 1:
        raise UnsupportedModel(f"an input has the size {expression}; only a*dim+b is possible")
    bounds = program.range_constraints.get(symbols[0])
    offset = int(expression.subs(symbols[0], 0))
    if bounds is None:
        return Symbol(str(symbols[0]), int(factor), offset, 1, None)
    bounded = bounds.upper.is_Integer and bounds.upper < _UNBOUNDED
    high = int(bounds.upper) if bounded else None
    return Symbol(str(symbols[0]), int(factor), offset, int(bounds.lower), high)


def _settle(shapes: Shapes, found: Sequence[Sequence[int | Symbol]]) -> Shapes:
    dims = {dim.name: dim for dim in shapes.dims if dim.name not in shapes.automatic}
    labels: dict[str, str] = {}
    inputs: list[tuple[Size, ...]] = []
    for shape, sizes in zip(shapes.inputs, found, strict=True):
        settled = list(shape)
        for axis, (size, actual) in enumerate(zip(shape, sizes, strict=True)):
            if not isinstance(size, DimSize) or size.dim not in shapes.automatic:
                continue
            settled[axis] = actual if isinstance(actual, int) else None
            if isinstance(actual, Symbol):
                label = labels.setdefault(actual.name, size.dim)
                dims[label] = Dim(label, max(1, actual.low), actual.high)
                settled[axis] = DimSize(label, actual.factor, actual.offset)
        inputs.append(tuple(settled))
    return evolve(shapes, dims=tuple(dims.values()), inputs=tuple(inputs), automatic=frozenset())


def _require(where: str, size: DimSize, found: int | Symbol, dim: Dim) -> None:
    if isinstance(found, int):
        raise CaptureFailed(
            f"torch.export fixed {where} at {found}, declared {dim}; declare it static or use "
            "another method"
        )
    if size.factor != found.factor or size.offset != found.offset:
        return  # torch named another symbol; its range is checked where the dimension stands alone
    # torch.export takes sizes 0 and 1 for special, and says min=2 where 1 was declared
    too_high = found.high is not None and (dim.max is None or found.high < dim.max)
    if found.low > max(dim.min, 2) or too_high:
        top = "" if found.high is None else f", max={found.high}"
        raise CaptureFailed(
            f"torch.export narrowed {where} to {found.low}..{found.high or ''}, declared {dim}; "
            f"declare Dim({dim.name!r}, min={found.low}{top})"
        )


def differences(declared: Shapes, settled: Shapes, names: Sequence[str]) -> tuple[str, ...]:
    """Say what became of each automatic axis, declared against achieved."""
    told = []
    for name, before, after in zip(names, declared.inputs, settled.inputs, strict=True):
        for axis, (size, actual) in enumerate(zip(before, after, strict=True)):
            if isinstance(size, DimSize) and size.dim in declared.automatic:
                what = f"fixed at {actual}"
                if isinstance(actual, DimSize):
                    what = f"{actual} with {settled.dim(actual.dim)}"
                told.append(f"{name} axis {axis}: declared automatic, {what}")
    return tuple(told)
