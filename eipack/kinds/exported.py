"""torch.export programs: the `.pt2` archive with empty tensors in place of its own.

The archive keeps the graph; `tensors.json` says which strided view of which
storage each parameter, buffer and constant is, so that aliases stay aliases.
"""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import torch
from attrs import frozen

from eipack.dtypes import dtype_name, torch_dtype
from eipack.errors import MalformedPackage, UnsupportedModel
from eipack.pool import on_cpu, view_storage

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

    from eipack.backend import Program, ProgramReader, ProgramWriter

_GRAPH = "graph.pt2"
_TENSORS = "tensors.json"

# torch 2.11 remarks on each archive whose tensors are all empty, which these always are
logging.getLogger("torch.export.pt2_archive._package").addFilter(
    lambda record: "on empty bytes" not in record.getMessage()
)


@frozen
class _View:
    """A tensor of the program as a strided view of the storage bound to `key`."""

    name: str
    group: Literal["state", "constant"]
    key: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    parameter: bool


def save(program: Program, writer: ProgramWriter) -> None:
    """Write the graph, and bind each storage once.

    Raises:
        UnsupportedModel: It holds something else than plain tensors.
    """
    exported: ExportedProgram = program.artifact
    keys: dict[tuple[int, int], str] = {}
    views = _views(exported.state_dict, "state", keys, writer)
    views += _views(exported.constants, "constant", keys, writer)
    out = io.BytesIO()
    with _untraced(exported.graph_module):
        torch.export.save(_stripped(exported), out)
    writer.member(_GRAPH, out.getvalue())
    writer.member(_TENSORS, msgspec.json.encode(views))


def _views(
    tensors: Mapping[str, object],
    group: Literal["state", "constant"],
    keys: dict[tuple[int, int], str],
    writer: ProgramWriter,
) -> list[_View]:
    views = []
    for name, tensor in tensors.items():
        data = _plain(name, tensor)
        storage = data.untyped_storage()
        place = (storage.data_ptr(), storage.nbytes())
        if place not in keys or not storage.nbytes():
            keys[place] = name
            writer.tensor(name, data)
        views.append(
            _View(
                name=name,
                group=group,
                key=keys[place],
                dtype=dtype_name(data.dtype),
                shape=tuple(data.shape),
                strides=tuple(data.stride()),
                offset=int(data.storage_offset()),
                parameter=isinstance(tensor, torch.nn.Parameter),
            )
        )
    return views


def _plain(name: str, value: object) -> Tensor:
    if not isinstance(value, torch.Tensor) or value.is_quantized:
        what = (
            f"quantised {value.dtype}" if isinstance(value, torch.Tensor) else type(value).__name__
        )
        raise UnsupportedModel(
            f"the exported program holds {name!r}, a {what}, and only plain tensors can be "
            "packaged in this kind; try method='script' or 'trace'"
        )
    return on_cpu(value)


@contextmanager
def _untraced(module: torch.nn.Module) -> Iterator[None]:
    """Hide where each node comes from: those traces name files of the machine that captured it."""
    graphs = [part.graph for part in module.modules() if isinstance(part, torch.fx.GraphModule)]
    nodes = [node for graph in graphs for node in graph.nodes if "stack_trace" in node.meta]
    traces = [node.meta.pop("stack_trace") for node in nodes]
    try:
        yield
    finally:
        for node, trace in zip(nodes, traces, strict=True):
            node.meta["stack_trace"] = trace


def _stripped(exported: ExportedProgram) -> ExportedProgram:
    clone = copy.copy(exported)
    clone._state_dict = {name: _empty(tensor) for name, tensor in exported.state_dict.items()}
    clone._constants = {name: _empty(tensor) for name, tensor in exported.constants.items()}
    clone._example_inputs = None
    return clone


def _empty(tensor: Tensor) -> Tensor:
    empty = torch.empty(0, dtype=tensor.dtype, device="cpu")
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(empty, requires_grad=False)
    return empty


def load(reader: ProgramReader, device: torch.device) -> ExportedProgram:
    """Return the program, its tensors bound to the package's bytes.

    Raises:
        MalformedPackage: Graph and tensor table do not belong together.
    """
    exported = torch.export.load(io.BytesIO(reader.member(_GRAPH)))
    state: dict[str, Any] = {}
    constants: dict[str, Any] = {}
    storages = {key: reader.storage(key) for key in reader.keys}
    for view in msgspec.json.decode(reader.member(_TENSORS), type=list[_View]):
        tensor = view_storage(
            storages[view.key], torch_dtype(view.dtype), view.shape, view.strides, view.offset
        )
        if view.parameter:
            tensor = torch.nn.Parameter(tensor, requires_grad=False)
        (state if view.group == "state" else constants)[view.name] = tensor
    if set(state) != set(exported.state_dict) or set(constants) != set(exported.constants):
        raise MalformedPackage("the exported program and its tensor table name other tensors")
    exported._state_dict = state
    exported._constants = constants
    return exported if device.type == "cpu" else _moved(exported, device)


def _moved(exported: ExportedProgram, device: torch.device) -> ExportedProgram:
    from torch.export.passes import move_to_device_pass

    return move_to_device_pass(exported, device)


def extract(reader: ProgramReader, samples: tuple[Tensor, ...], path: Path) -> None:
    """Write a file for `torch.export.load`."""
    exported = load(reader, torch.device("cpu"))
    native = reader.convention == "native"
    exported._example_inputs = reader.signature.nest(samples) if native else (samples, {})
    buffer = io.BytesIO()  # torch ends the process where it cannot write to a file of its own
    with warnings.catch_warnings():
        # of tensors that view a part of their storage; on the CPU torch stores the whole of it
        warnings.filterwarnings("ignore", "No complete tensor found")
        torch.export.save(exported, buffer)
    path.write_bytes(buffer.getbuffer())
