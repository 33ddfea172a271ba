"""ONNX programs: the model without the bytes of its larger initialisers.

They are stored unoptimised, since optimisers fold and transpose weights and
then nothing would be shared with the other kinds; an engine optimises when it
compiles. Small initialisers (shapes, axes) stay in the graph, where engines
look for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from eipack.errors import DependencyMissing, PackageIOError
from eipack.pool import buffer_of

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.backend import Program, ProgramReader, ProgramWriter

_GRAPH = "graph.onnx"
_INLINE = 1024
_PROTOBUF_LIMIT = 2**31 - 2**20


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise DependencyMissing(
            'ONNX programs need the onnx package: pip install "eipack[onnx]"'
        ) from error
    return onnx


def save(program: Program, writer: ProgramWriter) -> None:
    """Write the graph, and bind each initialiser above 1 KiB by its name."""
    onnx = _onnx()
    graph = onnx.ModelProto()
    graph.CopyFrom(program.artifact)
    for initializer in graph.graph.initializer:
        data = onnx.numpy_helper.to_array(initializer).tobytes()
        if len(data) > _INLINE:
            writer.tensor(initializer.name, torch.frombuffer(bytearray(data), dtype=torch.uint8))
            initializer.ClearField("raw_data")
            initializer.data_location = onnx.TensorProto.EXTERNAL
            initializer.external_data.add(key="location", value="weights.safetensors")
    writer.member(_GRAPH, graph.SerializeToString(deterministic=True))


def load(reader: ProgramReader, device: torch.device) -> Any:
    """Return the onnx.ModelProto with its initialisers in place (copied: protobuf owns its bytes)."""
    onnx = _onnx()
    model = onnx.ModelProto()
    model.ParseFromString(reader.member(_GRAPH))
    bound = set(reader.keys)
    for initializer in model.graph.initializer:
        if initializer.name in bound:
            del initializer.external_data[:]
            initializer.data_location = onnx.TensorProto.DEFAULT
            initializer.raw_data = bytes(buffer_of(reader.storage(initializer.name)))
    return model


def extract(reader: ProgramReader, samples: tuple[Tensor, ...], path: Path) -> None:
    """Write a file for any ONNX runtime; above 2 GiB the weights go to `<path>.data` beside it.

    Raises:
        PackageIOError: The `.data` file is there already.
    """
    onnx = _onnx()
    model = load(reader, torch.device("cpu"))
    if sum(len(initializer.raw_data) for initializer in model.graph.initializer) < _PROTOBUF_LIMIT:
        onnx.save(model, path)
        return
    data = path.with_name(path.name + ".data")
    if data.exists():
        raise PackageIOError(f"{data} is there already; remove it or choose another name")
    onnx.save(model, path, save_as_external_data=True, location=data.name)
