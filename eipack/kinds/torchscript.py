"""TorchScript programs: the archive without its storages.

The route is the one torch.package takes: the serialiser numbers each storage
and writes it as `.data/N.storage`; the archive is written again without those
records, and a storage context hands the bytes back at load. It keeps traced,
scripted, frozen and quantised modules exact, constants and packed parameters
included.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from eipack.errors import UnsupportedModel

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.backend import Program, ProgramReader, ProgramWriter

_GRAPH = "graph.pt"
_STORAGE = re.compile(r"\.data/(\d+)\.storage")
_WRITERS_OWN = {"version", "byteorder", ".data/serialization_id"}
_EMPTY = torch.empty(0, dtype=torch.uint8)


def save(program: Program, writer: ProgramWriter) -> None:
    """Write the graph, and bind its storages by their number."""
    reader = _archive(program.artifact)
    out = io.BytesIO()
    graph = torch._C.PyTorchFileWriter(out)
    for record in reader.get_all_records():
        storage = _STORAGE.fullmatch(record)
        if storage:
            writer.tensor(storage[1], _bytes_tensor(reader.get_record(record)))
        elif record not in _WRITERS_OWN and not record.endswith(".debug_pkl"):
            # debug records name the source files of the machine that captured the model
            data = reader.get_record(record)
            graph.write_record(record, data, len(data))
    graph.write_end_of_file()
    writer.member(_GRAPH, out.getvalue())


def _archive(module: torch.jit.ScriptModule) -> Any:
    out = io.BytesIO()
    archive = torch._C.PyTorchFileWriter(out)
    serializer = torch._C.ScriptModuleSerializer(archive)
    try:
        serializer.serialize(module._c, 0)
        serializer.write_files()
    except RuntimeError as error:
        raise UnsupportedModel(f"TorchScript cannot save this module: {error}") from error
    archive.write_end_of_file()
    return torch._C.PyTorchFileReader(io.BytesIO(out.getbuffer()))


def _bytes_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else _EMPTY.clone()


def load(reader: ProgramReader, device: torch.device) -> torch.jit.ScriptModule:
    """Return the module, its storages bound to the package's bytes."""
    context = torch._C.DeserializationStorageContext()
    for key in reader.keys:
        context.add_storage(f"{key}.storage", reader.storage(key))
    archive = torch._C.PyTorchFileReader(io.BytesIO(reader.member(_GRAPH)))
    unit = torch._C.CompilationUnit()
    loaded = torch._C._import_ir_module_from_package(unit, archive, context, device, "0")
    module: torch.jit.ScriptModule = torch.jit._recursive.wrap_cpp_module(loaded)
    if device.type != "cpu":
        move_constants(module, device)
    return module


def move_constants(module: torch.jit.ScriptModule, device: torch.device) -> None:
    """Let graph constants that name the CPU (as `torch.arange(n, device="cpu")`) name a device."""
    for submodule in module.modules():
        for name in submodule._c._method_names():
            _move_block(submodule._c._get_method(name).graph, device)


def _move_block(block: Any, device: torch.device) -> None:
    for node in block.nodes():
        if node.kind() == "prim::Constant" and node.output().type().kind() == "DeviceObjType":
            node.s_("value", str(device))
        for inner in node.blocks():
            _move_block(inner, device)


def extract(reader: ProgramReader, samples: tuple[Tensor, ...], path: Path) -> None:
    """Write a file for `torch.jit.load`."""
    torch.jit.save(load(reader, torch.device("cpu")), path)
