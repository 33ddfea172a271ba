"""The model that Triton's Python backend runs: a package beside it, on any target.

It lives in Triton's stub process, where `triton_python_backend_utils` is; there `model.py` imports
it under the name that the backend looks for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import triton_python_backend_utils as utils  # type: ignore[import-not-found]
from torch.utils import dlpack

from eipack.errors import EipackError
from eipack_serving.arrays import Array, Inputs, tensor_from
from eipack_serving.failures import status_of
from eipack_serving.service import PackageService
from eipack_serving.triton import PACKAGE


class PackageModel:
    """Serve the package of one version's folder."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the package with the parameters of `config.pbtxt`."""
        found = json.loads(args["model_config"]).get("parameters", {})
        asked = {key: value["string_value"] for key, value in found.items()}
        threads = asked.pop("threads", None)
        folder = Path(args["model_repository"]) / args["model_version"]
        self._service = PackageService(
            folder / PACKAGE, threads=None if threads is None else int(threads), **asked
        )
        self._inputs = {one["name"]: one["datatype"] for one in self._service.metadata()["inputs"]}
        self._service.start()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests that Triton has put together."""
        given = [
            {name: _input(request, name, kind) for name, kind in self._inputs.items()}
            for request in requests
        ]
        try:
            return [_response(one) for one in self._service.infer_batch(given)]
        except EipackError:  # which of them it was shows when each runs alone
            return [self._alone(one) for one in given]

    def _alone(self, inputs: Inputs) -> Any:
        try:
            return _response(self._service.infer(inputs))
        except EipackError as error:
            return utils.InferenceResponse(error=utils.TritonError(str(error), _code(error)))

    def finalize(self) -> None:
        """Let go of the package."""
        self._service.drain()
        self._service.close()


def _input(request: Any, name: str, datatype: str) -> Any:
    tensor = utils.get_input_tensor_by_name(request, name)
    if datatype == "BF16":  # which NumPy lacks
        return dlpack.from_dlpack(tensor.to_dlpack())
    return tensor.as_numpy()


def _response(outputs: dict[str, Array]) -> Any:
    return utils.InferenceResponse([_output(name, array) for name, array in outputs.items()])


def _output(name: str, array: Array) -> Any:
    if array.dtype == ml_dtypes.bfloat16:
        return utils.Tensor.from_dlpack(name, tensor_from(name, array))
    return utils.Tensor(name, array)


def _code(error: EipackError) -> Any:
    codes = {400: utils.TritonError.INVALID_ARG, 503: utils.TritonError.UNAVAILABLE}
    return codes.get(status_of(error), utils.TritonError.INTERNAL)
