"""The `cpu` target: PyTorch on the host, on weights mapped from the package.

Every process that loads the same package shares its pages, and results are the
same bits from call to call.
"""

from __future__ import annotations

from collections.abc import Sequence

from eipack.backend import Device
from eipack.processor import host
from eipack.torch_backend import TorchBackend


class CpuBackend(TorchBackend):
    """Serve `cpu`."""

    device = "cpu"

    def devices(self) -> Sequence[Device]:
        """Return the host's processor."""
        return [host()]
