"""ONNX programs: the model without the bytes of its larger initialisers.

They are stored unoptimised, since optimisers fold and transpose weights and
then nothing would be shared with the other kinds; an engine optimises when it
compiles. Small initialisers (shapes, axes) stay in the graph, where engines
look for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from eipack.errors import DependencyMissing, MalformedPackage
from eipack.pool import buffer_of

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.backend import Program, ProgramReader, ProgramWriter

_GRAPH = "graph.onnx"
_INLINE = 1024
_TRACE = "pkg.torch.onnx.stack_trace"
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
    """Write the graph, and bind each initialiser of more than 1024 bytes by its name."""
    onnx = _onnx()
    model = onnx.ModelProto()
    _copy(program.artifact, model, leave="graph")
    _copy(program.artifact.graph, model.graph, leave="initializer")
    _forget_traces([model.graph, *model.functions])
    for given in program.artifact.graph.initializer:
        kept = model.graph.initializer.add()
        data = given.raw_data  # torch writes this field alone; strings have none, and stay
        if len(data) > _INLINE:
            _copy(given, kept, leave="raw_data")
            writer.tensor(given.name, torch.frombuffer(bytearray(data), dtype=torch.uint8))
            kept.data_location = onnx.TensorProto.EXTERNAL
            kept.external_data.add(key="location", value="weights.safetensors")
        else:
            kept.CopyFrom(given)
    writer.member(_GRAPH, model.SerializeToString(deterministic=True))


def _copy(source: Any, target: Any, *, leave: str) -> None:
    """Copy the fields of a message but one, which may be larger than all others together."""
    for field, value in source.ListFields():
        if field.name == leave:
            continue
        if hasattr(value, "MergeFrom"):  # a message, or several of anything
            getattr(target, field.name).MergeFrom(value)
        else:
            setattr(target, field.name, value)


def _forget_traces(graphs: Iterable[Any]) -> None:
    """Remove where each node comes from: such traces name files of the machine that captured it."""
    for node in (node for graph in graphs for node in graph.node):
        for index in reversed(range(len(node.metadata_props))):
            if node.metadata_props[index].key == _TRACE:
                del node.metadata_props[index]
        for attribute in node.attribute:
            _forget_traces([attribute.g, *attribute.graphs])


def load(reader: ProgramReader, device: torch.device) -> Any:
    """Return the onnx.ModelProto with its initialisers in place.

    They are copied, since protobuf owns its bytes; the device is the engine's affair.

    Raises:
        MalformedPackage: The graph wants bytes from elsewhere.
    """
    onnx = _onnx()
    model = onnx.ModelProto()
    model.ParseFromString(reader.member(_GRAPH))
    bound = set(reader.keys)
    for initializer in model.graph.initializer:
        if initializer.name in bound:
            del initializer.external_data[:]
            initializer.ClearField("data_location")
            initializer.raw_data = bytes(buffer_of(reader.storage(initializer.name)))
        elif initializer.data_location == onnx.TensorProto.EXTERNAL:
            raise MalformedPackage(f"initialiser {initializer.name!r} is bound to no weights")
    return model


def extract(reader: ProgramReader, samples: tuple[Tensor, ...], path: Path) -> None:
    """Write a file for any ONNX runtime; above 2 GiB the weights go to `<path>.data` beside it."""
    onnx = _onnx()
    model = load(reader, torch.device("cpu"))
    if sum(len(initializer.raw_data) for initializer in model.graph.initializer) < _PROTOBUF_LIMIT:
        onnx.save(model, path)
    else:
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")
