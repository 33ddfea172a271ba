"""What may be exported: modules, ScriptModules, exported programs, and files of the latter two."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from eipack.capture.examples import Examples, examples
from eipack.capture.quiet import quiet
from eipack.capture.reference import Reference, exported_reference, first_line, on_host
from eipack.errors import ExampleInputsRequired, ModelSourceError, UnsupportedModel


def open_reference(
    model: Any, inputs: Any | None, kwargs: Mapping[str, Any] | None
) -> tuple[Reference, str]:
    """Return the reference for whatever was handed to `export`, and a name for it.

    Naming a file trusts it: its loader may run code that the file holds.

    Raises:
        ModelSourceError: The file holds neither TorchScript nor an exported program.
        UnsupportedModel: The object is no module.
        ExampleInputsRequired: There are no example inputs.
    """
    name = ""
    if isinstance(model, str | os.PathLike):
        name = Path(model).stem
        model = read_file(Path(model))
    if isinstance(model, ExportedProgram):
        return _exported(model, inputs, kwargs), name or "model"
    if not isinstance(model, nn.Module):
        raise UnsupportedModel(
            f"cannot export a {type(model).__name__}; pass a torch.nn.Module, a ScriptModule, an "
            "ExportedProgram, or the path of a .pt or .pt2 file"
        )
    scripted = isinstance(model, torch.jit.ScriptModule)
    if isinstance(model, torch.jit.ScriptModule) and not hasattr(model, "forward"):
        raise UnsupportedModel(
            "the script's forward is overloaded; wrap the module in one of your own and script that"
        )
    if not name:
        name = str(model.original_name) if scripted else type(model).__name__
    host = on_host(model)
    call = examples(host, inputs, kwargs)
    origin = "torchscript" if scripted else "eager"
    return Reference(host, origin, host, call), name  # type: ignore[arg-type]


def _exported(
    program: ExportedProgram, inputs: Any | None, kwargs: Mapping[str, Any] | None
) -> Reference:
    if inputs is None and not kwargs:
        if program.example_inputs is None:
            raise ExampleInputsRequired("the exported program has no example inputs; pass inputs=")
        inputs, kwargs = program.example_inputs
    module = exported_reference(program)
    call = _exported_examples(program, module, inputs, kwargs)
    return Reference(module, "exported", program, call)


def _exported_examples(
    program: ExportedProgram, module: nn.Module, inputs: Any, kwargs: Mapping[str, Any] | None
) -> Examples:
    call = examples(module, inputs, kwargs)
    wanted = len([name for name in program.graph_signature.user_inputs if isinstance(name, str)])
    if wanted != len(call.leaves):
        raise ExampleInputsRequired(
            f"the exported program takes {wanted} tensors, {len(call.leaves)} were given"
        )
    return call


def read_file(path: Path) -> torch.jit.ScriptModule | ExportedProgram:
    """Load a TorchScript or torch.export file with torch's own loaders.

    Raises:
        ModelSourceError: It is missing, or neither.
    """
    if not path.is_file():
        raise ModelSourceError(f"there is no file {path}")
    kind = _kind_of(path)
    try:
        with quiet():
            if kind == "exported":
                return torch.export.load(path)
            loaded: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]
                path, map_location="cpu"
            )
            return loaded
    except Exception as error:
        raise ModelSourceError(f"{path} cannot be loaded: {first_line(error)}") from error


def _kind_of(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            parts = {name.partition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelSourceError(
            f"{path} is neither a TorchScript nor a torch.export file"
        ) from error
    if "archive_format" in parts or any(part.startswith("models/") for part in parts):
        return "exported"
    if "constants.pkl" in parts:
        return "torchscript"
    if "data.pkl" in parts:
        raise ModelSourceError(
            f"{path} is a pickle of weights (torch.save), not a program; build the module, load "
            "the weights into it and export the module"
        )
    raise ModelSourceError(f"{path} is neither a TorchScript nor a torch.export file")
