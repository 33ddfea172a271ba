"""The `cpu+onednn` target: PyTorch alone, its layers run by oneDNN.

The program is frozen, and its linear and convolution layers become oneDNN operators on
weights packed for this processor; see `eipack_cpu.rewriting`. Float32 stays float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from eipack.backend import Device, LoadOptions, Precision, ProgramReader, Runner
from eipack.capture.torchscript import from_exported
from eipack.dtypes import torch_dtype
from eipack.errors import CaptureError, OptionRefused
from eipack.interpreter import unprofiled
from eipack.kinds import codec
from eipack.processor import host
from eipack.signature import DimSize, Signature
from eipack.target import Target
from eipack.torch_backend import TorchBackend, TorchRunner, native_call, torch_call, weights_span
from eipack_cpu.graphs import constant_ids, frozen_module
from eipack_cpu.rewriting import Choices, rewrite

_HOST = torch.device("cpu")


class OneDnnBackend(TorchBackend):
    """Serve `cpu+onednn`."""

    device = "cpu"
    engine = "onednn"
    precisions: ClassVar[tuple[Precision, ...]] = ("float32", "bfloat16")
    engine_options: ClassVar[dict[str, str]] = {
        "prepack": "pack weights for this processor, in memory of the session's own (true)",
        "fuse": "apply activations and additions within the layer before them (true)",
    }

    def devices(self) -> list[Device]:
        """Return the host's processor, or why oneDNN cannot be had."""
        return [host("onednn", "" if _is_there() else "this build of torch has no oneDNN")]

    def load(self, reader: ProgramReader, target: Target, options: LoadOptions) -> Runner:
        """Rewrite the program for oneDNN.

        Raises:
            OptionRefused: An option is neither true nor false.
        """
        self.find(target)
        choices = _choices(options)
        module = _script(reader)
        if module is None:
            return TorchRunner(torch_call(reader, _HOST), weights_span(reader), options.threads)
        frozen = frozen_module(module)
        signature = reader.signature
        inputs = None if reader.convention == "native" else _inputs(signature)
        rewrite(frozen.graph, inputs, choices, static=not signature.dims)
        call = _owned(unprofiled(frozen.forward), constant_ids(frozen.graph))
        if reader.convention == "native":
            call = native_call(call, signature)
        return TorchRunner(call, weights_span(reader), options.threads)


def _is_there() -> bool:
    return torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _choices(options: LoadOptions) -> Choices:
    for name, value in options.engine.items():
        if not isinstance(value, bool):
            raise OptionRefused(f"cpu+onednn takes true or false as {name}, not {value!r}")
    return Choices(bfloat16=options.precision == "bfloat16", **options.engine)


def _script(reader: ProgramReader) -> torch.jit.ScriptModule | None:
    """Return the program as TorchScript; None for an exported one that has no such form."""
    artifact = codec(reader.kind).load(reader, _HOST)
    if isinstance(artifact, torch.jit.ScriptModule):
        return artifact
    try:
        return from_exported(artifact)
    except CaptureError:
        return None


def _inputs(signature: Signature) -> tuple[Tensor, ...]:
    """Return zeros of the smallest sizes that the signature allows."""
    least = {dim.name: dim.min for dim in signature.dims}
    return tuple(
        torch.zeros(
            [size.at(least) if isinstance(size, DimSize) else size or 0 for size in spec.shape],
            dtype=torch_dtype(spec.dtype),
        )
        for spec in signature.inputs
    )


def _owned(call: Callable[..., Any], constants: frozenset[int]) -> Callable[..., Any]:
    """Copy every output that is a constant of the graph: it belongs to the caller."""

    def own(value: Any) -> Any:
        if isinstance(value, Tensor):
            shared = value.untyped_storage().data_ptr() in constants
            return value.clone() if shared else value
        if isinstance(value, dict):
            return {key: own(one) for key, one in value.items()}
        if isinstance(value, tuple | list):
            parts = [own(one) for one in value]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        return value

    def run(*inputs: Any, **kwargs: Any) -> Any:
        return own(call(*inputs, **kwargs))

    return run
