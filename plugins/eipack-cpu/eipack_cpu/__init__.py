"""The `cpu` target: PyTorch on the host, on weights mapped from the package.

Every process that loads the same package shares its pages, and results are the
same bits from call to call.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

from eipack.backend import Device
from eipack.target import Target
from eipack.torch_backend import TorchBackend


class CpuBackend(TorchBackend):
    """Serve `cpu`."""

    device = "cpu"

    def devices(self) -> Sequence[Device]:
        """Return the host's processor."""
        return [processor()]


def processor(engine: str | None = None, trouble: str = "") -> Device:
    """Describe the host's processor under an engine; `memory_bytes` is all of the host's."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0))
    name = f"{platform.machine()}, {cores} core{'s' if cores != 1 else ''}"
    return Device(Target("cpu", engine), name, not trouble, memory, trouble)
