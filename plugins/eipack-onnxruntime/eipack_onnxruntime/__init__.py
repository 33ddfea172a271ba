"""The targets `cpu+onnxruntime` and `cuda+onnxruntime`: any package through ONNX Runtime.

ONNX programs run as they are, the other kinds are converted when they are loaded. What ONNX
Runtime makes of a program is kept in the user's cache, so that only the first load optimises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from eipack.backend import Backend, Device, LoadOptions, Precision, ProgramReader, Runner
from eipack.processor import host
from eipack.target import Target
from eipack_onnxruntime.options import OPTIONS, parse


class CpuOnnxRuntime(Backend):
    """Serve `cpu+onnxruntime`."""

    device = "cpu"
    engine = "onnxruntime"
    kinds = ("onnx", "exported", "torchscript")
    options: ClassVar[frozenset[str]] = frozenset({"threads"})
    precisions: ClassVar[tuple[Precision, ...]] = ("float32", "int8")
    engine_options: ClassVar[Mapping[str, str]] = {
        name: option.description for name, option in OPTIONS.items()
    }

    def devices(self) -> Sequence[Device]:
        """Return the host's processor."""
        return [host("onnxruntime")]

    def load(self, reader: ProgramReader, target: Target, options: LoadOptions) -> Runner:
        """Compile the program, or take what an earlier load compiled.

        Raises:
            OptionRefused: An engine option has a value that it cannot have.
            UnsupportedModel: ONNX Runtime lacks an operator or a dtype of the program.
        """
        from eipack_onnxruntime.compiling import cpu_runner

        self.find(target)
        return cpu_runner(reader, parse(options.engine, options.threads), options.precision)


class CudaOnnxRuntime(Backend):
    """Serve `cuda+onnxruntime:N`, where the GPU build of ONNX Runtime is installed.

    Inputs and outputs pass through the host's memory.
    """

    device = "cuda"
    engine = "onnxruntime"
    kinds = ("onnx", "exported", "torchscript")

    def devices(self) -> Sequence[Device]:
        """List the GPUs that torch sees; none if ONNX Runtime is built without CUDA."""
        import torch

        if not torch.cuda.is_available():
            return []
        import onnxruntime

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            return []
        return [_describe(ordinal) for ordinal in range(torch.cuda.device_count())]

    def load(self, reader: ProgramReader, target: Target, options: LoadOptions) -> Runner:
        """Compile the program for the GPU, each time anew.

        Raises:
            UnsupportedModel: ONNX Runtime lacks an operator or a dtype of the program.
        """
        import torch

        from eipack_onnxruntime.compiling import cuda_session
        from eipack_onnxruntime.runner import OrtRunner

        ordinal = self.find(target).target.ordinal or 0
        place = torch.device("cuda", ordinal) if options.outputs_on == "device" else None
        return OrtRunner(cuda_session(reader, ordinal), reader.signature, outputs_on=place)


def _describe(ordinal: int) -> Device:
    import torch

    properties = torch.cuda.get_device_properties(ordinal)
    target = Target("cuda", "onnxruntime", ordinal)
    return Device(target, properties.name, memory_bytes=properties.total_memory)
