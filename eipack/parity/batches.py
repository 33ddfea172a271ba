"""Which batches a signature allows, and which of them are tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

from eipack.signature import Dim, DimSize, Signature, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor

_MOST_ROWS = 32
_MOST_ELEMENTS = 2**24
"""Of inputs and outputs of one call; large models are tried in smaller batches."""

FEW_ROWS = 8
"""Up to so many rows, every size of a batch is tried."""


def why_no_batch(signature: Signature) -> str | None:
    """Return the reason why two calls cannot run as one batch, None if they might."""
    specs = (*signature.inputs, *signature.outputs)
    first = {spec.shape[0] if spec.shape else None for spec in specs}
    size = next(iter(first), None)
    if len(first) != 1 or not isinstance(size, DimSize) or size != DimSize(size.dim):
        return "inputs and outputs do not have one dynamic dimension in common on axis 0"
    for spec in specs:
        if any(isinstance(n, DimSize) and n.dim == size.dim for n in spec.shape[1:]):
            return f"{spec.name!r} has the dimension {size.dim} on another axis too"
        if None in spec.shape:
            return f"output {spec.name!r} has a size that may follow other rows"
    batch = signature.dim(size.dim)
    if batch.sizes is not None:
        return f"the program was proved for some sizes only ({batch})"
    if batch.max is not None and batch.max < 2 * batch.min:
        return f"no two calls fit into one batch ({batch})"
    return None


def batch_dim(signature: Signature) -> Dim:
    """Return the dimension of the batch of a signature that allows one."""
    (size,) = {spec.shape[0] for spec in signature.inputs}
    assert isinstance(size, DimSize)  # noqa: S101 - `why_no_batch` has seen to it
    return signature.dim(size.dim)


def sizes_of(signature: Signature, leaves: Sequence[Tensor]) -> dict[str, int]:
    """Return the value of each dimension in one call's tensors."""
    return {
        size.dim: (leaf.shape[axis] - size.offset) // size.factor
        for spec, leaf in zip(signature.inputs, leaves, strict=True)
        for axis, size in enumerate(spec.shape)
        if isinstance(size, DimSize)
    }


def row_shape(spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Return the shape of one row at these sizes of the other dimensions."""
    rest = (n.at(sizes) if isinstance(n, DimSize) else int(n or 0) for n in spec.shape[1:])
    return (1, *rest)


def most_rows(signature: Signature, samples: Sequence[Tensor]) -> int:
    """Return the largest batch that `rows_apart` tries; a server makes none that is larger.

    It is 0 where the signature allows no batch.
    """
    if why_no_batch(signature) is not None:
        return 0
    return largest(signature, sizes_of(signature, samples))


def largest(signature: Signature, sizes: Mapping[str, int]) -> int:
    """Return the largest batch to try at these sizes of the other dimensions."""
    batch = batch_dim(signature)
    rows = min(_MOST_ROWS, _MOST_ELEMENTS // max(1, _elements(signature, sizes)))
    rows = max(rows, 2 * batch.min)
    return rows if batch.max is None else min(rows, batch.max)


def other_sizes(signature: Signature, sample: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Give the smallest and the largest sizes of the other dimensions, unless rows get large."""
    batch = batch_dim(signature)
    others = [dim for dim in signature.dims if dim.name != batch.name]
    tops = {dim.name: 2 * sample[dim.name] + 1 if dim.max is None else dim.max for dim in others}
    for chosen in ({dim.name: dim.min for dim in others}, tops):
        sizes = {**sample, **chosen}
        if sizes != dict(sample) and _elements(signature, sizes) * FEW_ROWS <= _MOST_ELEMENTS:
            yield sizes


def _elements(signature: Signature, sizes: Mapping[str, int]) -> int:
    specs = (*signature.inputs, *signature.outputs)
    return sum(prod(row_shape(spec, sizes)) for spec in specs)
