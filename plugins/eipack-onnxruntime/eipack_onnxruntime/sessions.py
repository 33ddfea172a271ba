"""Sessions of ONNX Runtime from a program, from an optimised file, and such a file itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import onnxruntime

from eipack_onnxruntime.faults import unsupported
from eipack_onnxruntime.graphs import Graph
from eipack_onnxruntime.options import Settings

MODEL: Final = "model.onnx"
CPU: Final = ("CPUExecutionProvider",)

_FATAL: Final = 4  # everything less is an exception too, and would be told twice
_LEVELS: Final = {
    "disable": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


class UnsavedError(Exception):
    """ONNX Runtime does not write what it made of a program, or does not read it again."""


def in_memory(graph: Graph, settings: Settings, providers: Sequence[Any] = CPU) -> Any:
    """Return a session that optimises a graph for itself.

    Raises:
        UnsupportedModel: ONNX Runtime lacks an operator or a dtype of the program.
    """
    with unsupported("run this program"):
        return _session(graph, _options(settings), providers)


def write_optimised(model: Graph | Path, folder: Path, settings: Settings) -> Path:
    """Write what ONNX Runtime makes of a graph, or of a model in a file; weights lie beside it.

    Raises:
        UnsavedError: It makes nothing of it, or cannot write it.
    """
    options = _options(settings)
    options.optimized_model_filepath = str(folder / MODEL)
    for name, value in _files(settings.values).items():
        options.add_session_config_entry(name, value)
    try:
        _session(model, options, CPU)
    except Exception as error:
        raise UnsavedError(str(error)) from error
    return folder / MODEL


def _files(values: Mapping[str, Any]) -> dict[str, str]:
    prefix = "session.optimized_model_external_initializers_"
    return {
        f"{prefix}file_name": f"{MODEL}.data",
        f"{prefix}min_size_in_bytes": "1024",
        "session.save_external_prepacked_constant_initializers": str(int(values["prepacking"])),
    }


def open_optimised(path: Path, settings: Settings) -> Any:
    """Return a session on a file that `write_optimised` wrote; its weights are mapped.

    Raises:
        UnsavedError: ONNX Runtime does not read it.
    """
    try:
        return _session(path, _options(settings, level="disable"), CPU)
    except Exception as error:
        raise UnsavedError(str(error)) from error


def _session(model: Graph | Path, options: Any, providers: Sequence[Any]) -> Any:
    if isinstance(model, Path):
        return onnxruntime.InferenceSession(str(model), options, providers=list(providers))
    model.give_to(options)
    return onnxruntime.InferenceSession(model.model, options, providers=list(providers))


def _options(settings: Settings, level: str | None = None) -> Any:
    values = settings.values
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.graph_optimization_level = _LEVELS[level or values["graph_optimization_level"]]
    options.intra_op_num_threads = settings.threads
    if values["execution_mode"] == "parallel":
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
        options.inter_op_num_threads = values["inter_op_num_threads"]
    options.enable_cpu_mem_arena = values["enable_cpu_mem_arena"]
    options.enable_mem_pattern = values["enable_mem_pattern"]
    for name, value in _entries(values).items():
        options.add_session_config_entry(name, str(int(value)))
    return options


def _entries(values: Mapping[str, Any]) -> dict[str, bool]:
    """Return the options that ONNX Runtime takes by name.

    Threads that wait for work by spinning slow down whatever runs between two calls, another
    session above all: by default they stop when a call ends.
    """
    return {
        "session.intra_op.allow_spinning": values["spinning"] != "never",
        "session.inter_op.allow_spinning": values["spinning"] != "never",
        "session.force_spinning_stop": values["spinning"] == "run",
        "session.disable_prepacking": not values["prepacking"],
    }
