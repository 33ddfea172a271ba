"""What an accelerator claims of a node, in Ray's resources."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

if TYPE_CHECKING:
    from eipack_eia.sizes import SliceSize

    from eipack.target import Target

CONTEXT_BYTES: Final = 600_000_000
"""What CUDA and PyTorch take of a GPU for each process, beside the models of a slice."""

_STEPS: Final = 10_000
"""Ray counts resources in steps of 0.0001."""


@frozen
class Claim:
    """Resources of Ray: processors, a fraction of a GPU, bytes of the host's memory."""

    num_cpus: float = 0.0
    num_gpus: float = 0.0
    memory: int = 0

    def options(self) -> dict[str, Any]:
        """Return them as the options of an actor."""
        found: dict[str, Any] = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}
        return found | ({"memory": self.memory} if self.memory else {})

    def __str__(self) -> str:
        if self.num_gpus:
            return f"{self.num_gpus:g} GPU"
        return f"{self.num_cpus:g} CPU and {self.memory / 1e9:g} GB"


def claim_of(size: SliceSize, on: Target, gpu_memory_bytes: int | None) -> Claim:
    """Return what a slice claims: the part of a GPU that holds it, or processors without one.

    A processor for each FP32 TFLOPS of the type stands for its computing on a CPU.

    Raises:
        ValueError: A GPU of that memory is too small for it.
    """
    if on.device != "cuda":
        return Claim(num_cpus=max(1.0, size.fp32_tflops or 1.0), memory=size.memory_bytes)
    if gpu_memory_bytes is None:
        raise ValueError(f"{on}: the memory of the cluster's GPUs is not known")
    needed = size.memory_bytes + CONTEXT_BYTES
    if needed > gpu_memory_bytes:
        raise ValueError(
            f"{size.name} needs {needed / 1e9:.1f} GB with its process, and a GPU has "
            f"{gpu_memory_bytes / 1e9:.1f} GB; choose a smaller type"
        )
    return Claim(num_gpus=ceil(needed / gpu_memory_bytes * _STEPS) / _STEPS)
