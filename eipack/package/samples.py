"""The example inputs of a package and what the model gave for them, as a safetensors file.

Complex tensors, some of which safetensors lacks, are stored as pairs of reals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from eipack.dtypes import torch_dtype
from eipack.errors import MalformedPackage
from eipack.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor

Samples = tuple[tuple["Tensor", ...], tuple["Tensor", ...]]


def encode_samples(samples: Mapping[str, Tensor]) -> bytes:
    """Write tensors by name: `input.<name>` and `output.<name>`."""
    import torch
    from safetensors.torch import save

    plain = {}
    for name, tensor in samples.items():
        value = tensor.detach().cpu().resolve_conj().contiguous()
        plain[name] = (torch.view_as_real(value) if value.is_complex() else value).clone()
    return save(plain)


def decode_samples(data: bytes, signature: Signature) -> Samples:
    """Return inputs and outputs in the order of the signature.

    Raises:
        MalformedPackage: Something else is there than the signature names.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        stored = load(data)
        return _pick(stored, "input", signature.inputs), _pick(stored, "output", signature.outputs)
    except (SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise MalformedPackage(f"the samples cannot be read: {error}") from error


def _pick(
    stored: Mapping[str, Tensor], side: str, specs: Iterable[TensorSpec]
) -> tuple[Tensor, ...]:
    import torch

    found = [(stored[f"{side}.{spec.name}"], torch_dtype(spec.dtype)) for spec in specs]
    return tuple(
        torch.view_as_complex(value) if dtype.is_complex else value for value, dtype in found
    )
