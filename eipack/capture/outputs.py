"""The output side of a signature, found by watching the model at several sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eipack.capture.reference import Outputs
from eipack.dtypes import dtype_name
from eipack.errors import UnsupportedModel
from eipack.signature import DimSize, Size, TensorSpec

Observation = tuple[Mapping[str, int], Outputs]


def output_specs(observations: Sequence[Observation]) -> tuple[TensorSpec, ...]:
    """Return the specs of the outputs; a size is fixed, follows one dimension, or is unknown.

    A size that happened to be equal at all tested sizes is taken as fixed only if the
    dimensions varied.

    Raises:
        UnsupportedModel: The nesting or a dtype differs from call to call.
    """
    first = observations[0][1]
    for _, outputs in observations:
        if outputs.tree != first.tree:
            raise UnsupportedModel(
                "the nesting of the model's outputs changes from call to call; return the same "
                "structure always"
            )
    return tuple(_spec(index, name, observations) for index, name in enumerate(first.names))


def _spec(index: int, name: str, observations: Sequence[Observation]) -> TensorSpec:
    leaves = [outputs.leaves[index] for _, outputs in observations]
    dtypes = {dtype_name(leaf.dtype) for leaf in leaves}
    ranks = {leaf.dim() for leaf in leaves}
    if len(dtypes) > 1 or len(ranks) > 1:
        raise UnsupportedModel(f"output {name!r} changes its dtype or rank from call to call")
    sizes = [dims for dims, _ in observations]
    shape = tuple(
        _size([int(leaf.shape[axis]) for leaf in leaves], sizes) for axis in range(ranks.pop())
    )
    return TensorSpec(name, dtypes.pop(), shape)


def _size(actual: Sequence[int], dims: Sequence[Mapping[str, int]]) -> Size:
    if len(set(actual)) == 1:
        return actual[0]
    for name in dims[0]:
        line = _line([sizes[name] for sizes in dims], actual)
        if line is not None:
            return DimSize(name, *line)
    return None


def _line(xs: Sequence[int], ys: Sequence[int]) -> tuple[int, int] | None:
    """Return integers (factor, offset), factor > 0, with y = factor * x + offset everywhere."""
    (low, at_low), (high, at_high) = min(zip(xs, ys, strict=True)), max(zip(xs, ys, strict=True))
    if low == high or (at_high - at_low) % (high - low):
        return None
    factor = (at_high - at_low) // (high - low)
    offset = at_low - factor * low
    fits = all(y == factor * x + offset for x, y in zip(xs, ys, strict=True))
    return (factor, offset) if fits and factor > 0 else None
