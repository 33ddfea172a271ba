"""The `cuda:N` target: PyTorch on an NVIDIA GPU.

Programs captured on the CPU are moved: weights are copied to the device once,
and constants in the graph that name the CPU are made to name the device. Inputs
go through pinned memory; outputs come back to the host, synchronised, unless
`outputs_on="device"` was asked for. Float32 means float32: loading a program turns
TF32 convolutions off, which is a setting of the whole process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

from eipack.backend import Device, LoadOptions, ProgramReader, Runner
from eipack.errors import SessionClosed
from eipack.target import Target
from eipack.torch_backend import TorchBackend

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class CudaBackend(TorchBackend):
    """Serve `cuda:N`; N counts the devices that CUDA_VISIBLE_DEVICES leaves visible."""

    device = "cuda"
    options: ClassVar[frozenset[str]] = frozenset()

    def devices(self) -> Sequence[Device]:
        """List the GPUs that torch sees; none without a driver or a CUDA build of torch."""
        import torch

        if not torch.cuda.is_available():
            return []
        return [_describe(ordinal) for ordinal in range(torch.cuda.device_count())]

    def context(self, target: Target) -> AbstractContextManager[Any]:
        """Return inference mode on the target's device."""
        import torch

        device = torch.cuda.device(self.torch_device(target))
        stack = ExitStack()
        stack.enter_context(super().context(target))
        stack.enter_context(device)
        return stack

    def load(self, reader: ProgramReader, target: Target, options: LoadOptions) -> Runner:
        """Copy the program's weights to the device."""
        import torch

        torch.backends.cudnn.allow_tf32 = False
        return super().load(reader, target, options)

    def runner(
        self,
        call: Callable[..., Any],
        reader: ProgramReader,
        device: torch.device,
        options: LoadOptions,
    ) -> Runner:
        """Wrap the program in transfers to and from the device."""
        return CudaRunner(call, device, to_host=options.outputs_on == "host")


class CudaRunner:
    """Copy inputs to the device, run, and bring the outputs back."""

    def __init__(self, call: Callable[..., Any], device: torch.device, *, to_host: bool) -> None:
        self._call: Callable[..., Any] | None = call
        self._device = device
        self._to_host = to_host

    def __call__(self, *inputs: Tensor) -> Tensor | Sequence[Tensor]:
        """Run the program on the device's current stream, and wait for it."""
        import torch

        call = self._call
        if call is None:
            raise SessionClosed("the session was closed during the call")
        result = call(*(self._to_device(tensor) for tensor in inputs))
        outputs = (result,) if isinstance(result, torch.Tensor) else tuple(result)
        if self._to_host:
            outputs = tuple(self._from_device(tensor) for tensor in outputs)
        else:  # an output may be a weight, and the caller may write to outputs
            outputs = tuple(tensor.clone() for tensor in outputs)
        torch.cuda.current_stream(self._device).synchronize()
        return outputs

    def _to_device(self, tensor: Tensor) -> Tensor:
        if tensor.device == self._device:
            return tensor
        if tensor.device.type == "cpu" and not tensor.is_pinned():
            tensor = tensor.contiguous().pin_memory()
        return tensor.to(self._device, non_blocking=True)

    def _from_device(self, tensor: Tensor) -> Tensor:
        import torch

        if tensor.device.type == "cpu":
            return tensor
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return host.copy_(tensor, non_blocking=True)

    def close(self) -> None:
        """Drop the program and give its memory back to the device."""
        import torch

        self._call = None
        torch.cuda.empty_cache()


def _describe(ordinal: int) -> Device:
    import torch

    target = Target("cuda", ordinal=ordinal)
    try:
        properties = torch.cuda.get_device_properties(ordinal)
    except (RuntimeError, AssertionError) as error:
        detail = str(error).splitlines()[0]
        return Device(target, "unknown", healthy=False, detail=detail)
    return Device(target, properties.name, memory_bytes=properties.total_memory)
