"""The caller's own inputs for parity."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from eipack.capture.dims import Shapes
from eipack.capture.examples import Examples, examples
from eipack.capture.reference import Reference
from eipack.errors import EipackError, ParityInputsRequired

Call = tuple[dict[str, int], list[Tensor]]


def given_calls(parity_inputs: Any, reference: Reference, shapes: Shapes) -> list[Call]:
    """Read an iterable of argument tuples or keyword dicts; give sizes and tensors of each.

    Raises:
        ParityInputsRequired: One does not fit the examples, or they miss a bound of a
            dynamic dimension.
    """
    calls = []
    for number, item in enumerate(parity_inputs):
        try:
            call = examples(reference.module, item, None)
            sizes = _fitting(call, reference.examples, shapes)
        except EipackError as error:
            raise ParityInputsRequired(f"parity input {number}: {error}") from error
        calls.append((sizes, list(call.leaves)))
    if not calls:
        raise ParityInputsRequired("parity_inputs is empty")
    for dim in shapes.dims:
        missing = {dim.min, dim.max or dim.min} - {sizes[dim.name] for sizes, _ in calls}
        if missing:
            raise ParityInputsRequired(
                f"parity_inputs never has {dim.name} = {min(missing)}, a bound of {dim}"
            )
    return calls


def _fitting(call: Examples, sample: Examples, shapes: Shapes) -> dict[str, int]:
    if call.tree != sample.tree:
        raise ParityInputsRequired("another structure or constant than in the examples")
    for name, leaf, first, shape in zip(
        sample.names, call.leaves, sample.leaves, shapes.inputs, strict=True
    ):
        if leaf.dtype != first.dtype or leaf.dim() != len(shape):
            raise ParityInputsRequired(f"{name!r} has another dtype or rank than the example")
    sizes = shapes.sample_sizes(call)
    for dim in shapes.dims:
        if not dim.admits(sizes[dim.name]):
            raise ParityInputsRequired(f"{dim.name} = {sizes[dim.name]}, declared {dim}")
    if shapes.at(sizes) != [tuple(leaf.shape) for leaf in call.leaves]:
        raise ParityInputsRequired("a size that is not dynamic differs from the examples")
    return sizes
