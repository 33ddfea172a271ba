"""How large a slice of a device is: the types that Elastic Inference had, and free sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from attrs import evolve, frozen

CUSTOM: Final = "custom"
DEFAULT_TYPE: Final = "eia2.medium"
GB: Final = 1_000_000_000


@frozen
class SliceSize:
    """What a slice asks for: memory, and how much computing.

    The TFLOPS are those that Elastic Inference published for the type, None for a free size.
    `compute_share` is the part of the device, above 0 and up to 1; None where none was asked for.
    """

    name: str
    memory_bytes: int
    fp32_tflops: float | None = None
    fp16_tflops: float | None = None
    compute_share: float | None = None


SIZES: Final[Mapping[str, SliceSize]] = MappingProxyType(
    {
        name: SliceSize(name, memory_gb * GB, fp32, fp16)
        for name, memory_gb, fp32, fp16 in (
            ("eia1.medium", 1, 1.0, 8.0),
            ("eia1.large", 2, 2.0, 16.0),
            ("eia1.xlarge", 4, 4.0, 32.0),
            ("eia2.medium", 2, 1.0, 8.0),
            ("eia2.large", 4, 2.0, 16.0),
            ("eia2.xlarge", 8, 4.0, 32.0),
        )
    }
)


def size_of(
    type_name: str | None = None,
    memory_gb: float | None = None,
    compute_share: float | None = None,
) -> SliceSize:
    """Return the size of a named type, or of `memory_gb` (1 GB is 10^9 bytes) as `custom`.

    Neither means `DEFAULT_TYPE`; `compute_share` goes with both.

    Raises:
        ValueError: The type is unknown, both are given, or a number is out of range.
    """
    if compute_share is not None and not 0 < compute_share <= 1:
        raise ValueError(f"compute share {compute_share:g}: write a number above 0 and up to 1")
    if memory_gb is None:
        named = _named(DEFAULT_TYPE if type_name is None else type_name)
        return evolve(named, compute_share=compute_share)
    if type_name is not None:
        size = _named(type_name)
        raise ValueError(
            f"type {type_name} has {size.memory_bytes / GB:g} GB of memory, and {memory_gb:g} GB "
            f"were asked for as well; give one of the two"
        )
    memory_bytes = round(memory_gb * GB) if math.isfinite(memory_gb) else 0
    if memory_bytes <= 0:
        raise ValueError(
            f"memory of {memory_gb:g} GB: write a number above 0, or a type: {_known()}"
        )
    return SliceSize(CUSTOM, memory_bytes, compute_share=compute_share)


def _named(name: str) -> SliceSize:
    if name not in SIZES:
        raise ValueError(
            f"there is no type {name!r}; known: {_known()}; or give the memory in GB for a free one"
        )
    return SIZES[name]


def _known() -> str:
    return ", ".join(SIZES)
