"""Programs of other kinds as ONNX programs, unoptimised, dynamic sizes kept."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx_ir
import torch
from torch import Tensor

from eipack.backend import ProgramReader
from eipack.capture.exported import to_onnx
from eipack.capture.quiet import quiet
from eipack.dtypes import torch_dtype
from eipack.kinds import codec
from eipack.signature import Signature, TensorSpec
from eipack.torch_backend import native_call
from eipack_onnxruntime.faults import unsupported
from eipack_onnxruntime.graphs import ONNX_DTYPES, require_dtypes, stored_model

_OPSET = 18
_LIFTED = """graph(%x):
  %copy = aten::lift_fresh_copy(%x)
  return (%copy)"""
_CLONED = """graph(%x):
  %none : NoneType = prim::Constant()
  %copy = aten::clone(%x, %none)
  return (%copy)"""
_CPU = torch.device("cpu")


def as_onnx(reader: ProgramReader, examples: tuple[Tensor, ...]) -> onnx_ir.Model:
    """Return a program as an ONNX one.

    `examples` are inputs that the program can be run on.

    Raises:
        UnsupportedModel: An operator has no translation, or a dtype no counterpart.
    """
    require_dtypes(reader.signature)
    if reader.kind == "onnx":
        return stored_model(reader)
    artifact = codec(reader.kind).load(reader, _CPU)
    convert = _exported if reader.kind == "exported" else _torchscript
    with unsupported(f"be given this {reader.kind} program"):
        model: onnx_ir.Model = onnx_ir.from_proto(convert(artifact, reader, examples))
    return model


def converters(kind: str) -> dict[str, str]:
    """Return the versions of what a program of a kind goes through before it is optimised."""
    names = ("onnx", "onnx-ir", "onnxscript", *(("torch",) if kind != "onnx" else ()))
    return {name: version(name) for name in names}


def _names(signature: Signature) -> tuple[list[str], list[str]]:
    """Return names that nothing in a graph has."""
    inputs = [f"eipack_input_{n}" for n in range(len(signature.inputs))]
    return inputs, [f"eipack_output_{n}" for n in range(len(signature.outputs))]


def _exported(program: Any, reader: ProgramReader, _: tuple[Tensor, ...]) -> Any:
    return to_onnx(program, *_names(reader.signature))


def _torchscript(
    module: torch.jit.ScriptModule, reader: ProgramReader, examples: tuple[Tensor, ...]
) -> Any:
    """Convert a module by torch's exporter for TorchScript; control flow is kept."""
    import onnx

    inputs, outputs = _names(reader.signature)
    axes = _dynamic(inputs, reader.signature.inputs) | _dynamic(outputs, reader.signature.outputs)
    with tempfile.TemporaryDirectory(prefix="eipack-") as folder, quiet(), torch.no_grad():
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            _flat(module, reader, examples),
            examples,
            path,
            dynamo=False,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=_OPSET,
            do_constant_folding=False,
        )
        model = onnx.load(path)
    _restore_inputs(model.graph, inputs, reader.signature.inputs)
    return model


def _restore_inputs(graph: Any, names: Sequence[str], specs: Sequence[TensorSpec]) -> None:
    """Put back the inputs that no operator reads, which the exporter leaves out."""
    from onnx import helper

    there = {item.name: item for item in graph.input}
    whole = []
    for name, spec in zip(names, specs, strict=True):
        shape = [size if isinstance(size, int) else None for size in spec.shape]
        item = helper.make_tensor_value_info(name, ONNX_DTYPES[torch_dtype(spec.dtype)], shape)
        whole.append(there.get(name, item))
    del graph.input[:]
    graph.input.extend(whole)


class _Native(torch.nn.Module):
    """A module that keeps the model's own call, as one from flat tensors to flat tensors."""

    def __init__(self, module: torch.jit.ScriptModule, signature: Signature) -> None:
        super().__init__()
        self.module = module
        self._call = native_call(module, signature)

    def forward(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        return tuple(self._call(*leaves))


def _flat(
    module: torch.jit.ScriptModule, reader: ProgramReader, examples: tuple[Tensor, ...]
) -> Any:
    # torch.export lifts constants by an operator that the exporter does not know
    torch._C._jit_pass_custom_pattern_based_rewrite_graph(_LIFTED, _CLONED, module.graph)
    if reader.convention == "flat":
        return module
    trace: Any = torch.jit.trace  # it keeps the control flow of what was scripted
    return trace(_Native(module, reader.signature), examples, check_trace=False)


def _dynamic(names: Sequence[str], specs: Sequence[TensorSpec]) -> dict[str, dict[int, str]]:
    """Name each axis whose size is not fixed."""
    return {
        name: {
            axis: f"{name}_{axis}"
            for axis, size in enumerate(spec.shape)
            if not isinstance(size, int)
        }
        for name, spec in zip(names, specs, strict=True)
    }
