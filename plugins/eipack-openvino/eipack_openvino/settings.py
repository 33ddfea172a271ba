"""What a caller asks for, as OpenVINO's properties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from eipack.backend import LoadOptions
from eipack.errors import OptionRefused
from eipack.threads import usable_cores
from eipack_openvino.errors import reason_of

ENGINE_OPTIONS: Final[Mapping[str, str]] = {
    "ENABLE_CPU_PINNING": "bind each thread to a core (false, so that sessions may share cores)",
    "ENABLE_HYPER_THREADING": "use both threads of a physical core",
    "MODEL_DISTRIBUTION_POLICY": "TENSOR_PARALLEL spreads a model over processor sockets",
    "NUM_STREAMS": "how many calls are computed at once, each with its share of the threads (1)",
    "PERFORMANCE_HINT": "LATENCY (the default) or THROUGHPUT, which chooses the streams",
    "PERFORMANCE_HINT_NUM_REQUESTS": "how many calls THROUGHPUT may count on at once",
    "SCHEDULING_CORE_TYPE": "ANY_CORE, PCORE_ONLY or ECORE_ONLY on hybrid processors",
    "TBB_PARTITIONER": "how loops are split between threads: STATIC or AUTO",
}
"""The properties that a caller may set by name. None of them changes precision."""

_PRECISIONS: Final = {
    "float32": ("f32", "FP32"),
    "bfloat16": ("bf16", "BF16"),
    "float16": ("f16", "FP16"),
}
"""OpenVINO's name of each, and that of the processor's capability."""

_EXACT: Final = {
    # each of these lowers precision without being asked where it is left as it is
    "EXECUTION_MODE_HINT": "ACCURACY",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    "KV_CACHE_PRECISION": "f32",
    "CPU_DENORMALS_OPTIMIZATION": False,
}


def properties(options: LoadOptions) -> dict[str, Any]:
    """Return the properties to compile with.

    Raises:
        OptionRefused: The processor lacks the precision, or an option has a wrong value.
    """
    given = _checked(options.engine)
    chosen: dict[str, Any] = {
        **_EXACT,
        "INFERENCE_PRECISION_HINT": _precision(options.precision),
        "INFERENCE_NUM_THREADS": options.threads or usable_cores(),
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }
    if "PERFORMANCE_HINT" not in given:
        chosen["NUM_STREAMS"] = 1
    return {**chosen, **given}


def _precision(name: str) -> str:
    from eipack_openvino.library import core

    hint, capability = _PRECISIONS[name]
    if capability not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise OptionRefused(f"this processor does not compute in {name}; use float32")
    return hint


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Let OpenVINO judge each option alone, on a model of nothing, so that its name is known."""
    for name, value in given.items():
        try:
            if not isinstance(value, bool | int | str):
                raise TypeError("give a number, true, false or a word")  # noqa: TRY301
            _try({name: value})
        except (RuntimeError, TypeError) as error:
            reason = reason_of(error)
            raise OptionRefused(f"OpenVINO's {name} cannot be {value!r}: {reason}") from error
    return dict(given)


def _try(option: Mapping[str, Any]) -> None:
    from eipack_openvino.library import core, openvino

    library = openvino()
    nothing = library.opset13.parameter([1])
    core().compile_model(library.Model([nothing], [nothing]), "CPU", dict(option))
