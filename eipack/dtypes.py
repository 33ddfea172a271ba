"""Torch's dtypes by name, and how safetensors spells them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from eipack.errors import UnsupportedModel

if TYPE_CHECKING:
    import torch

_SAFETENSORS = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "complex64": "C64",
}


def dtype_name(dtype: torch.dtype) -> str:
    """Return torch's name of a dtype, without the prefix."""
    return str(dtype).removeprefix("torch.")


@cache
def torch_dtype(name: str) -> torch.dtype:
    """Return the dtype of that name.

    Raises:
        UnsupportedModel: This torch has no such dtype.
    """
    import torch

    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise UnsupportedModel(f"torch {torch.__version__} has no dtype {name!r}")
    return dtype


def safetensors_dtype(name: str) -> str | None:
    """Return safetensors' spelling of a torch dtype, None where it has none."""
    return _SAFETENSORS.get(name)
