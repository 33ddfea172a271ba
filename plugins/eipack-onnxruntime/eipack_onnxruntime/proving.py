"""Converted programs held to the ones they were converted from.

The gate of an export proves the programs that lie in a package. What is converted when it is
loaded was not among them, and converters are known to change a meaning in silence (that of
TorchScript rounds `int8 // 2` towards zero), so it is proved here, once a compiled form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from eipack.backend import ProgramReader, Runner
from eipack.errors import UnsupportedModel
from eipack.parity.tolerance import compare
from eipack.signature import Dim, DimSize, Signature, TensorSpec
from eipack.torch_backend import torch_call


def prove(reader: ProgramReader, samples: tuple[Tensor, ...], runner: Runner) -> None:
    """Compare a runner with the torch program it was made from, at several sizes.

    Raises:
        UnsupportedModel: They differ.
    """
    call = torch_call(reader, torch.device("cpu"))
    for sizes in _sizes(reader.signature, samples):
        inputs = tuple(
            _resized(tensor, spec, sizes)
            for tensor, spec in zip(samples, reader.signature.inputs, strict=True)
        )
        with torch.inference_mode():
            try:
                expected = call(*(tensor.clone() for tensor in inputs))
            except Exception:  # noqa: BLE001, S112 - no sizes for these values
                continue
        _require_equal(reader.signature, sizes, expected, _run(runner, inputs))


def _run(runner: Runner, inputs: tuple[Tensor, ...]) -> Any:
    try:
        return runner(*inputs)
    except Exception as error:
        raise UnsupportedModel(f"ONNX Runtime fails on the converted program: {error}") from error


def _require_equal(
    signature: Signature, sizes: Mapping[str, int], expected: Any, actual: Any
) -> None:
    wanted = [expected] if isinstance(expected, Tensor) else list(expected)
    for spec, want, got in zip(signature.outputs, wanted, actual, strict=True):
        difference = compare(want, got)
        if not difference.agrees:
            at = ", ".join(f"{name} = {size}" for name, size in sizes.items())
            raise UnsupportedModel(
                f"converted to ONNX, output {spec.name!r} is not the package's own"
                f"{f' at {at}' if at else ''} ({difference.reason or difference.max_abs}); "
                'export the model with programs=["onnx"]'
            )


def _sizes(signature: Signature, samples: tuple[Tensor, ...]) -> Iterator[dict[str, int]]:
    """Give the sample's sizes, the lowest ones, and those just above the sample's."""
    at = _sample_sizes(signature, samples)
    yield at
    for other in (
        {dim.name: dim.sizes[0] if dim.sizes else dim.min for dim in signature.dims},
        {dim.name: _next(dim, at[dim.name]) for dim in signature.dims},
    ):
        if other != at:
            yield other


def _sample_sizes(signature: Signature, samples: tuple[Tensor, ...]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for tensor, spec in zip(samples, signature.inputs, strict=True):
        for size, there in zip(spec.shape, tensor.shape, strict=True):
            if isinstance(size, DimSize):
                sizes[size.dim] = (there - size.offset) // size.factor
    return sizes


def _next(dim: Dim, size: int) -> int:
    if dim.sizes is not None:
        return next((other for other in dim.sizes if other > size), size)
    return size + 1 if dim.admits(size + 1) else size


def _resized(tensor: Tensor, spec: TensorSpec, sizes: Mapping[str, int]) -> Tensor:
    """Cut or repeat a sample along its dynamic axes: its values stay those of the sample."""
    for axis, size in enumerate(spec.shape):
        if not isinstance(size, DimSize) or not tensor.shape[axis]:
            continue
        wanted = torch.arange(size.at(sizes)) % tensor.shape[axis]
        tensor = tensor.index_select(axis, wanted)
    return tensor
