"""How the gate runs a program that is still in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from eipack.backend import LoadOptions, ProgramReader
from eipack.errors import DependencyMissing, DeviceNotFound, ParityFailed
from eipack.kinds import codec
from eipack.registry import locate
from eipack.staging import Staged
from eipack.target import Target
from eipack.torch_backend import torch_call


def gate_call(reader: ProgramReader) -> Callable[..., Any]:
    """Return a portable program as a callable on the CPU, bound as a user's load would bind it.

    Raises:
        DependencyMissing: An ONNX program, and onnxruntime is not installed.
    """
    if reader.kind == "onnx":
        return _onnx_call(reader)
    return torch_call(reader, torch.device("cpu"))


def _onnx_call(reader: ProgramReader) -> Callable[..., list[Tensor]]:
    try:
        import onnxruntime
    except ImportError as error:
        raise DependencyMissing(
            'proving ONNX programs needs onnxruntime: pip install "eipack[onnx]"'
        ) from error
    model = codec("onnx").load(reader, torch.device("cpu"))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ParityFailed(
            f"the onnx program cannot be proved, since onnxruntime does not run it: {error}",
            program="onnx",
        ) from error
    names = [item.name for item in session.get_inputs()]

    def run(*leaves: Tensor) -> list[Tensor]:
        feed = {name: leaf.numpy() for name, leaf in zip(names, leaves, strict=True)}
        # an output that is an input lies in memory that goes with the feed
        return [torch.from_numpy(array).clone() for array in session.run(None, feed)]

    return run


def backend_call(reader: Staged, target: Target) -> tuple[Callable[..., Any], Target] | None:
    """Return a backend's own program as a callable, None where its device is not here.

    What torch.export captured is given contiguous inputs, as a session gives them.
    """
    try:
        plugin, place = locate(target)
    except DeviceNotFound:
        return None
    runner = plugin.load(reader, place, LoadOptions())

    captured = reader.program.method == "export"

    def run(*leaves: Tensor) -> Any:
        if captured:
            leaves = tuple(leaf.contiguous() for leaf in leaves)
        with plugin.context(place):
            return runner(*leaves)

    return run, place
