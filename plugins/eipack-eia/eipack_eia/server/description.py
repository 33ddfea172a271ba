"""How an accelerator describes itself: what was asked of its slice, and what is enforced."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from eipack.registry import locate
from eipack_eia.server.models import Models
from eipack_eia.sizes import SliceSize


@frozen
class Description:
    """An accelerator's identity and the limits of its slice.

    `enforced` says for each limit what holds it, or why nothing does.
    """

    id: str
    size: SliceSize
    enforced: Mapping[str, Any]

    def document(self, models: Models, status: str) -> dict[str, Any]:
        """Return what clients are told of the accelerator."""
        size = self.size
        backend, _ = locate(models.on)
        return {
            "id": self.id,
            "type": size.name,
            "on": str(models.on),
            "host_name": socket.gethostname(),
            "status": status,
            "kinds": list(backend.kinds),
            "memory_bytes": size.memory_bytes,
            "memory_free_bytes": size.memory_bytes - models.used_bytes,
            "requested": {
                "memory_bytes": size.memory_bytes,
                "compute_share": size.compute_share,
                "fp32_tflops": size.fp32_tflops,
                "fp16_tflops": size.fp16_tflops,
            },
            "enforced": dict(self.enforced),
            "models": [model.name for model in models.resident()],
        }
