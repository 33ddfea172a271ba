"""The inputs of a run: the package's samples, or the caller's own, as they travel to a child."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.package import Package
    from eipack.signature import Signature

Given = Sequence["Tensor"] | str | None
"""Tensors in signature order, the file that holds them, or None for the package's samples."""


def leaves_of(signature: Signature, inputs: Any) -> tuple[Tensor, ...]:
    """Return one tensor, a tuple of arguments or a dict of keywords as tensors in signature order.

    Raises:
        SignatureMismatch: They do not fit.
    """
    from torch import Tensor

    from eipack.enforce import Enforcer

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    if isinstance(inputs, Mapping):
        kwargs = inputs
    else:
        args = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    tensors = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)]
    devices = frozenset({"cpu", *(tensor.device.type for tensor in tensors)})
    leaves: tuple[Tensor, ...] = Enforcer(signature, devices)(args, kwargs)
    return leaves


def write_inputs(path: Path, signature: Signature, leaves: Sequence[Tensor]) -> str:
    """Write inputs to a safetensors file, and return its path."""
    from eipack.package.samples import encode_samples

    names = [f"input.{spec.name}" for spec in signature.inputs]
    path.write_bytes(encode_samples(dict(zip(names, leaves, strict=True))))
    return str(path)


def read_inputs(package: Package, given: Given) -> tuple[Tensor, ...]:
    """Return the inputs in signature order, wherever they are."""
    if given is None:
        return package.samples()[0]
    if not isinstance(given, str):
        return tuple(given)
    from safetensors.torch import load

    from eipack.dtypes import torch_dtype

    stored = load(Path(given).read_bytes())
    found = []
    for spec in package.signature.inputs:
        value = stored[f"input.{spec.name}"]
        found.append(_as_complex(value) if torch_dtype(spec.dtype).is_complex else value)
    return tuple(found)


def _as_complex(pairs: Tensor) -> Tensor:
    import torch

    return torch.view_as_complex(pairs)
