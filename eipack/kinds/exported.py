"""torch.export programs: the `.pt2` archive with empty tensors in place of its own.

The archive keeps the graph; `tensors.json` says which strided view of which
storage each parameter, buffer and constant is, so that aliases stay aliases.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import torch
from attrs import frozen
from torch.export import ExportedProgram

from eipack.dtypes import dtype_name, torch_dtype
from eipack.errors import UnsupportedModel
from eipack.pool import on_cpu, view_storage

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.backend import Program, ProgramReader, ProgramWriter

_GRAPH = "graph.pt2"
_TENSORS = "tensors.json"


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
    """Write the graph, and bind each storage once."""
    exported: ExportedProgram = program.artifact
    keys: dict[int, str] = {}
    views = _views(exported.state_dict, "state", keys, writer)
    views += _views(exported.constants, "constant", keys, writer)
    out = io.BytesIO()
    torch.export.save(_stripped(exported), out)
    writer.member(_GRAPH, out.getvalue())
    writer.member(_TENSORS, msgspec.json.encode(views))


def _views(
    tensors: Mapping[str, object],
    group: Literal["state", "constant"],
    keys: dict[int, str],
    writer: ProgramWriter,
) -> list[_View]:
    views = []
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise UnsupportedModel(
                f"the exported program holds {name!r}, a {type(tensor).__name__}: "
                "objects other than tensors cannot be packaged"
            )
        data = on_cpu(tensor)
        pointer = data.untyped_storage().data_ptr()
        if pointer not in keys or not pointer:
            keys[pointer] = name
            writer.tensor(name, data)
        views.append(
            _View(
                name=name,
                group=group,
                key=keys[pointer],
                dtype=dtype_name(data.dtype),
                shape=tuple(data.shape),
                strides=tuple(data.stride()),
                offset=int(data.storage_offset()),
                parameter=isinstance(tensor, torch.nn.Parameter),
            )
        )
    return views


def _stripped(exported: ExportedProgram) -> ExportedProgram:
    clone = copy.copy(exported)
    clone._state_dict = {name: _empty(tensor) for name, tensor in exported.state_dict.items()}
    clone._constants = {name: _empty(tensor) for name, tensor in exported.constants.items()}
    clone._example_inputs = None
    return clone


def _empty(tensor: Tensor) -> Tensor:
    empty = torch.empty(0, dtype=tensor.dtype)
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(empty, requires_grad=False)
    return empty


def load(reader: ProgramReader, device: torch.device) -> ExportedProgram:
    """Return the program, its tensors bound to the package's bytes."""
    exported = torch.export.load(io.BytesIO(reader.member(_GRAPH)))
    state: dict[str, Tensor] = {}
    constants: dict[str, Tensor] = {}
    storages = {key: reader.storage(key) for key in reader.keys}
    for view in msgspec.json.decode(reader.member(_TENSORS), type=list[_View]):
        tensor = view_storage(
            storages[view.key], torch_dtype(view.dtype), view.shape, view.strides, view.offset
        )
        if view.parameter:
            tensor = torch.nn.Parameter(tensor, requires_grad=False)
        (state if view.group == "state" else constants)[view.name] = tensor
    if set(state) != set(exported.state_dict) or set(constants) != set(exported.constants):
        raise UnsupportedModel("the exported program and its tensor table name other tensors")
    exported._state_dict = state
    exported._constants = constants
    return exported if device.type == "cpu" else _moved(exported, device)


def _moved(exported: ExportedProgram, device: torch.device) -> ExportedProgram:
    from torch.export.passes import move_to_device_pass

    return move_to_device_pass(exported, device)


def extract(reader: ProgramReader, samples: tuple[Tensor, ...], path: Path) -> None:
    """Write a file for `torch.export.load`."""
    exported = load(reader, torch.device("cpu"))
    args = samples, {}
    if reader.convention == "native":
        args = reader.signature.nest(samples)
    exported._example_inputs = args
    torch.export.save(exported, path)
