"""The model that Triton's Python backend runs: the first thousand numbers of its input.

`benchmarks.rivals.triton` copies it into a model repository as `model.py`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

numpy: Any = import_module("numpy")
backend: Any = import_module("triton_python_backend_utils")


class TritonPythonModel:
    """What Triton calls."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests."""
        return [backend.InferenceResponse([_first(request)]) for request in requests]


def _first(request: Any) -> Any:
    x = backend.get_input_tensor_by_name(request, "x").as_numpy()
    return backend.Tensor("output", numpy.ascontiguousarray(x.reshape(-1)[:1000]))
