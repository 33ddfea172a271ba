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
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from eipack.errors import UnsupportedModel

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.backend import Program, ProgramReader, ProgramWriter

_GRAPH = "graph.pt"
_STORAGE = re.compile(r"\.data/(\d+)\.storage")
# Constants of scripted classes come in the order of a set, another in each process.
_FINALS = re.compile(rb"(?:^  \w+ : Final\[[^\n]*\n)+", re.MULTILINE)
_WRITERS_OWN = {"version", ".data/version", "byteorder", ".data/serialization_id"}


def save(program: Program, writer: ProgramWriter) -> None:
    """Write the graph, and bind its storages by their number.

    Raises:
        UnsupportedModel: TorchScript cannot save the module.
    """
    whole = _serialized(program.artifact)
    archive: Any = torch._C.PyTorchFileReader(whole)
    with zipfile.ZipFile(whole) as listed:
        sizes = {one.filename.partition("/")[2]: one.file_size for one in listed.infolist()}
    memory = whole.getbuffer()
    out = io.BytesIO()
    graph = torch._C.PyTorchFileWriter(out)
    # Operators change meaning between versions, and this serialiser does not say whose these are.
    graph.set_min_version(torch._C._get_max_operator_version())
    for record in archive.get_all_records():
        storage = _STORAGE.fullmatch(record)
        if storage:
            start = archive.get_record_offset(record)
            writer.tensor(storage[1], _bytes_tensor(memory[start : start + sizes[record]]))
        elif record not in _WRITERS_OWN and not record.endswith(".debug_pkl"):
            # debug records name the source files of the machine that captured the model
            data = _FINALS.sub(_in_order, archive.get_record(record))
            graph.write_record(record, data, len(data))
    graph.write_end_of_file()
    writer.member(_GRAPH, out.getvalue())


def _serialized(module: torch.jit.ScriptModule) -> io.BytesIO:
    out = io.BytesIO()
    archive = torch._C.PyTorchFileWriter(out)
    serializer = torch._C.ScriptModuleSerializer(archive)
    try:
        serializer.serialize(module._c, 0)
        serializer.write_files()
    except RuntimeError as error:
        raise UnsupportedModel(f"TorchScript cannot save this module: {error}") from error
    archive.write_end_of_file()
    out.seek(0)
    return out


def _in_order(lines: re.Match[bytes]) -> bytes:
    return b"".join(sorted(lines[0].splitlines(keepends=True)))


def _bytes_tensor(data: memoryview) -> Tensor:
    if not data:
        return torch.empty(0, dtype=torch.uint8, device="cpu")
    return torch.frombuffer(data, dtype=torch.uint8)


def load(reader: ProgramReader, device: torch.device) -> torch.jit.ScriptModule:
    """Return the module, its storages bound to the package's bytes.

    Raises:
        UnsupportedModel: This torch cannot read it (modules that went through
            `torch.jit.optimize_for_inference` can be written but not read).
    """
    context = torch._C.DeserializationStorageContext()
    for key in reader.keys:
        context.add_storage(f"{key}.storage", reader.storage(key))
    archive = torch._C.PyTorchFileReader(io.BytesIO(reader.member(_GRAPH)))
    unit = torch._C.CompilationUnit()
    try:
        loaded = torch._C._import_ir_module_from_package(unit, archive, context, device, "0")
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise UnsupportedModel(f"TorchScript cannot load this program again: {reason}") from error
    module: torch.jit.ScriptModule = torch.jit._recursive.wrap_cpp_module(loaded)  # type: ignore[no-untyped-call]
    if device.type != "cpu":
        move_constants(module, device)
    return module


def move_constants(module: torch.jit.ScriptModule, device: torch.device) -> None:
    """Let graph constants that name the CPU (as `torch.arange(n, device="cpu")`) name a device."""
    for submodule in module.modules():
        code: Any = submodule._c
        for name in code._method_names():
            _move_block(code._get_method(name).graph, device)


def _move_block(block: Any, device: torch.device) -> None:
    for node in block.nodes():
        if node.kind() == "prim::Constant" and node.output().type().kind() == "DeviceObjType":
            node.s_("value", str(device))
        for inner in node.blocks():
            _move_block(inner, device)


def extract(reader: ProgramReader, samples: tuple[Tensor, ...], path: Path) -> None:
    """Write a file for `torch.jit.load`."""
    buffer = io.BytesIO()  # torch ends the process where it cannot write to a file of its own
    torch.jit.save(load(reader, torch.device("cpu")), buffer)
    path.write_bytes(buffer.getbuffer())
