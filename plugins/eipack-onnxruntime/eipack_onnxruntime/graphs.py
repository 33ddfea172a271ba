"""ONNX programs as ONNX Runtime takes them: a small graph, and weights that stay where they lie.

The weights are given by name, out of the mapped package, so that models may be larger than the
2 GiB that a protobuf message can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir
import torch
from attrs import frozen
from onnxruntime import OrtValue
from onnxruntime.capi import _pybind_state as ort

from eipack.backend import ProgramReader
from eipack.capture.quiet import quiet
from eipack.dtypes import torch_dtype
from eipack.errors import MalformedPackage, UnsupportedModel
from eipack.pool import buffer_of
from eipack.signature import Signature

ONNX_DTYPES: Final[Mapping[torch.dtype, int]] = {
    torch.float32: onnx.TensorProto.FLOAT,
    torch.uint8: onnx.TensorProto.UINT8,
    torch.int8: onnx.TensorProto.INT8,
    torch.uint16: onnx.TensorProto.UINT16,
    torch.int16: onnx.TensorProto.INT16,
    torch.int32: onnx.TensorProto.INT32,
    torch.int64: onnx.TensorProto.INT64,
    torch.bool: onnx.TensorProto.BOOL,
    torch.float16: onnx.TensorProto.FLOAT16,
    torch.float64: onnx.TensorProto.DOUBLE,
    torch.uint32: onnx.TensorProto.UINT32,
    torch.uint64: onnx.TensorProto.UINT64,
    torch.bfloat16: onnx.TensorProto.BFLOAT16,
}
"""ONNX's number of each dtype that it shares with torch."""

_INLINE: Final = 1024
"""Bytes of the largest initialiser that stays in the graph, where shapes and axes are read."""


@frozen(eq=False)
class Graph:
    """A graph without its larger initialisers, and these by name; they outlive the sessions."""

    model: bytes
    weights: Mapping[str, Any]

    def give_to(self, options: Any) -> None:
        """Let a session take the weights from here."""
        values = [_as_value(array) for array in self.weights.values()]
        options.add_external_initializers(list(self.weights), values)


def _as_value(array: Any) -> OrtValue:
    kind = int(onnx_ir.DataType.from_numpy(array.dtype))
    return OrtValue(ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, kind))


def require_dtypes(signature: Signature) -> None:
    """Refuse inputs and outputs that ONNX Runtime has no tensors for.

    Raises:
        UnsupportedModel: One is complex, or of another dtype that is torch's alone.
    """
    for spec in (*signature.inputs, *signature.outputs):
        if torch_dtype(spec.dtype) not in ONNX_DTYPES:
            raise UnsupportedModel(
                f"ONNX Runtime has no {spec.dtype} tensors, and {spec.name!r} is one"
            )


def stored_model(reader: ProgramReader) -> onnx_ir.Model:
    """Return a stored ONNX program, its weights those of the mapped package.

    Raises:
        MalformedPackage: The graph cannot be read, or wants bytes from elsewhere.
    """
    try:
        model: onnx_ir.Model = onnx_ir.from_proto(
            onnx.ModelProto.FromString(reader.member("graph.onnx"))
        )
    except Exception as error:  # protobuf has no error of its own for this
        raise MalformedPackage(f"the graph of the onnx program cannot be read: {error}") from error
    bound = set(reader.keys)
    for name, value in model.graph.initializers.items():
        tensor: Any = value.const_value
        if name in bound:
            raw = np.frombuffer(buffer_of(reader.storage(name)), dtype=tensor.dtype.numpy())
            shape = tensor.shape.numpy()
            value.const_value = onnx_ir.Tensor(raw.reshape(shape), dtype=tensor.dtype, name=name)
        elif isinstance(tensor, onnx_ir.ExternalTensor):
            raise MalformedPackage(f"initialiser {name!r} is bound to no weights")
    return model


def graph_of(model: onnx_ir.Model, *, fold: bool) -> Graph:
    """Take the larger initialisers out of a model.

    With `fold` constants are computed and patterns of torch's exporter resolved first: ONNX
    Runtime does not see through all of them, and would leave batch normalisations in ResNets.
    """
    if fold:
        from onnxscript.optimizer import optimize_ir

        with quiet():
            optimize_ir(model)
    weights = {}
    for name, value in model.graph.initializers.items():
        tensor: Any = value.const_value
        if tensor.nbytes > _INLINE and tensor.dtype != onnx_ir.DataType.STRING:
            weights[name] = np.ascontiguousarray(tensor.numpy())
            value.const_value = onnx_ir.ExternalTensor(
                "weights", None, None, tensor.dtype, shape=tensor.shape, name=name
            )
    return Graph(onnx_ir.to_proto(model).SerializeToString(), weights)
