"""The `cuda+inductor:N` target: exported programs, compiled to native code for this GPU."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from eipack.backend import Device
from eipack.inductor import InductorBackend
from eipack.target import Target
from eipack_cuda import CudaBackend


class CudaInductorBackend(CudaBackend, InductorBackend):
    """Serve `cuda+inductor:N`, with the devices, contexts and transfers of `cuda:N`."""

    engine = "inductor"
    kinds = InductorBackend.kinds

    def devices(self) -> Sequence[Device]:
        """List the GPUs that torch sees."""
        found = super().devices()
        return [
            evolve(one, target=Target("cuda", self.engine, one.target.ordinal)) for one in found
        ]

    def needs(self, target: Target) -> dict[str, str]:
        """Say what a library that is compiled for a GPU needs: one of its architecture."""
        import torch

        major, minor = torch.cuda.get_device_capability(self.torch_device(self.find(target).target))
        return {**super().needs(target), "architecture": f"sm_{major}{minor}"}
