"""OpenVINO itself: imported when it is first needed, one core of it in a process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from threading import Lock
from typing import Any, Final

from eipack.errors import ExecutionFailed
from eipack_openvino.errors import unsupported

_TELEMETRY: Final = "openvino_telemetry"
_importing: Final = Lock()
_cores: Final[dict[int, Any]] = {}


@cache
def openvino() -> Any:
    """Import OpenVINO, without the package that would tell its makers of it.

    Where that package cannot be imported, OpenVINO takes an empty one of its own in its place.
    What imports OpenVINO before this does is not eipack's to change.
    """
    with _importing:
        before = sys.modules.get(_TELEMETRY)
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment] # what makes an import fail
        try:
            return import_module("openvino")
        finally:
            if before is None:
                del sys.modules[_TELEMETRY]
            else:
                sys.modules[_TELEMETRY] = before


def core() -> Any:
    """Return this process's core.

    Raises:
        ExecutionFailed: The process was forked from one that had a core: its threads are not
            here, and OpenVINO would wait for them for ever.
    """
    process = os.getpid()
    if process not in _cores:
        if _cores:
            raise ExecutionFailed(
                "OpenVINO was used in this process before it forked, and cannot be used in the "
                "child; start the child by spawn, or load only after the fork"
            )
        _cores.setdefault(process, openvino().Core())
    return _cores[process]


def compiled(model: Any, properties: Mapping[str, Any]) -> Any:
    """Compile a model for the processor.

    Raises:
        UnsupportedModel: It cannot be.
    """
    with unsupported():
        return core().compile_model(model, "CPU", dict(properties))


@cache
def element_types() -> Mapping[str, Any]:
    """Return OpenVINO's type of each dtype that inputs and outputs may have.

    Float64 is left out: it would be computed in float32.
    """
    types = openvino().Type
    return {
        "bfloat16": types.bf16,
        "bool": types.boolean,
        "float16": types.f16,
        "float32": types.f32,
        "int16": types.i16,
        "int32": types.i32,
        "int64": types.i64,
        "int8": types.i8,
        "uint8": types.u8,
    }
