"""Programs for the CPU: optimised once, kept in the user's cache, opened from there.

What is kept is the optimised graph beside its weights as the kernels of this processor read them.
Opening it optimises nothing, and its weights are mapped, so that processes share their pages.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import onnxruntime
import torch
from torch import Tensor

from eipack.backend import Precision, ProgramReader, Runner
from eipack.cache import cached
from eipack.dtypes import torch_dtype
from eipack.errors import UnsupportedModel
from eipack.processor import instructions_digest
from eipack.signature import DimSize, Size
from eipack_onnxruntime.converting import as_onnx, converters
from eipack_onnxruntime.graphs import Graph, graph_of
from eipack_onnxruntime.options import Settings, parse
from eipack_onnxruntime.proving import prove
from eipack_onnxruntime.runner import OrtRunner
from eipack_onnxruntime.sessions import (
    CPU,
    MODEL,
    UnsavedError,
    in_memory,
    open_optimised,
    write_optimised,
)

_MADE_BY: Final = 1
"""Counts the changes of this package that give other files for the same key."""


def cpu_runner(reader: ProgramReader, settings: Settings, precision: Precision) -> Runner:
    """Return a program on the CPU.

    Where files cannot be written, a float32 program is optimised in memory.

    Raises:
        UnsupportedModel: ONNX Runtime lacks an operator or a dtype of the program, its answers
            are others when it is converted, or int8 would change nothing of it.
    """
    fold = settings.values["graph_optimization_level"] != "disable"
    program = cache(lambda: graph_of(as_onnx(reader, _samples(reader)), fold=fold))

    def make(folder: Path) -> None:
        if precision == "int8":
            _quantise(program(), folder, settings)
            return
        write_optimised(program(), folder, settings)
        if reader.kind != "onnx":  # that one was proved when it was exported
            opened = open_optimised(folder / MODEL, settings)
            prove(reader, _samples(reader), _runner(opened, reader, settings))

    try:
        folder, kept = _compiled(reader, settings, precision, make)
        try:
            return _runner(open_optimised(folder / MODEL, settings), reader, settings)
        finally:
            if not kept:  # what is mapped outlives its name
                shutil.rmtree(folder, ignore_errors=True)
    except (OSError, UnsavedError) as error:
        runner = _runner(in_memory(program(), settings), reader, settings)
        if precision == "int8":
            raise UnsupportedModel(f"ONNX Runtime made no int8 program: {error}") from error
        if reader.kind != "onnx":
            prove(reader, _samples(reader), runner)
        return runner


def cuda_session(reader: ProgramReader, ordinal: int) -> Any:
    """Return a session on a GPU, which computes float32 in float32 and not in TF32.

    Raises:
        UnsupportedModel: ONNX Runtime lacks an operator or a dtype of the program.
    """
    provider = ("CUDAExecutionProvider", {"device_id": str(ordinal), "use_tf32": "0"})
    graph = graph_of(as_onnx(reader, _samples(reader)), fold=True)
    return in_memory(graph, parse({}, None), (provider, *CPU))


def _runner(session: Any, reader: ProgramReader, settings: Settings) -> Runner:
    return OrtRunner(session, reader.signature, settings.pool)


def _samples(reader: ProgramReader) -> tuple[Tensor, ...]:
    """Return inputs of the package's own; zeros where there is no package yet."""
    opened = reader.package()
    if opened is not None:
        with opened[0] as package:
            return tuple(package.samples()[0])
    sizes = {dim.name: dim.sizes[-1] if dim.sizes else dim.min for dim in reader.signature.dims}
    return tuple(
        torch.zeros([_at(size, sizes) for size in spec.shape], dtype=torch_dtype(spec.dtype))
        for spec in reader.signature.inputs
    )


def _at(size: Size, sizes: Mapping[str, int]) -> int:
    return size.at(sizes) if isinstance(size, DimSize) else size or 0


def _compiled(
    reader: ProgramReader,
    settings: Settings,
    precision: Precision,
    make: Callable[[Path], None],
) -> tuple[Path, bool]:
    """Return the folder of the compiled program, and whether it is kept."""
    if reader.digest is not None:
        return cached(_key(reader, settings, precision), make)
    folder = Path(tempfile.mkdtemp(prefix="eipack-"))
    try:
        make(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder, False


def _quantise(program: Graph, folder: Path, settings: Settings) -> None:
    """Fold constants first, since a weight behind a transposition is not seen as one."""
    from eipack_onnxruntime.quantizing import quantize

    folding = parse({"graph_optimization_level": "basic", "prepacking": False}, settings.threads)
    with tempfile.TemporaryDirectory(prefix="eipack-") as aside:
        plain = write_optimised(program, Path(aside), folding)
        small = Path(aside) / "int8.onnx"
        quantize(plain, small)
        write_optimised(small, folder, settings)


def _key(reader: ProgramReader, settings: Settings, precision: Precision) -> dict[str, Any]:
    """Return everything that the files depend on."""
    return {
        "engine": "onnxruntime",
        "version": onnxruntime.__version__,
        "made_by": _MADE_BY,
        "program": reader.digest,
        "processor": f"{platform.machine()} {instructions_digest()}",
        "precision": precision,
        "options": settings.shaping,
        "made_through": converters(reader.kind),
    }
