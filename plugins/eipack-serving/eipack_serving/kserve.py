"""A package as a model of KServe, over its protocols v1 and v2, by HTTP and gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kserve
from kserve.errors import InvalidInput, ModelNotReady
from kserve.utils.numpy_codec import from_np_dtype, to_np_dtype
from kserve.utils.utils import generate_uuid

from eipack.errors import UnsupportedModel
from eipack_serving.arrays import Array
from eipack_serving.failures import BadRequest, Unavailable
from eipack_serving.rows import columns, rows
from eipack_serving.service import PackageService


class PackageModel(kserve.Model):  # type: ignore[misc]
    """Serve a package under a name; `options` are those of `PackageService`."""

    def __init__(self, name: str, file: str | Path, target: str = "cpu", **options: Any) -> None:
        super().__init__(name)
        self._service = PackageService(file, target, **options)

    def load(self) -> bool:
        """Open the package and warm it up.

        Raises:
            UnsupportedModel: KServe has no datatype for an input or output.
            EipackError: What `eipack.load` raises.
        """
        for one in (*self.get_input_types(), *self.get_output_types()):
            if to_np_dtype(one["datatype"]) is None:
                raise UnsupportedModel(
                    f"KServe has no datatype {one['datatype']}, which {one['name']!r} of "
                    f"{self._service.name} is; export the model with another dtype there"
                )
        self._service.start()
        self.ready = self._service.ready
        return self._service.ready

    async def healthy(self) -> bool:
        """Tell whether calls are taken; a further process of the server opens the package first."""
        if self.ready and not self._service.ready:
            await asyncio.to_thread(self._service.start)
        return self._service.ready

    def stop(self) -> None:
        """Finish the calls that run, then give the device back."""
        self.ready = False
        self._service.drain()
        self._service.close()

    def get_input_types(self) -> list[dict[str, Any]]:
        """Describe the inputs as the signature has them; -1 is a size that varies."""
        return list(self._service.metadata()["inputs"])

    def get_output_types(self) -> list[dict[str, Any]]:
        """Describe the outputs as the signature has them."""
        return list(self._service.metadata()["outputs"])

    async def predict(
        self,
        payload: Mapping[str, Any] | kserve.InferRequest,
        headers: Mapping[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any] | kserve.InferResponse:
        """Answer a request of either protocol.

        Raises:
            InvalidInput: The request does not fit the signature.
            ModelNotReady: The package is being drained, or its accelerator is lost or overloaded.
        """
        with _answering(self.name):
            if isinstance(payload, kserve.InferRequest):
                arrays = _arrays(payload)
                return _response(payload, self.name, await self._service.ainfer(arrays))
            made = await self._service.ainfer(columns(payload, self.get_input_types()))
            return {"predictions": rows(made, len(payload["instances"]))}


@contextmanager
def _answering(name: str) -> Iterator[None]:
    """Turn the errors of the service into those that KServe has a status for."""
    try:
        yield
    except BadRequest as error:
        raise InvalidInput(str(error)) from error
    except Unavailable as error:
        raise ModelNotReady(name, str(error)) from error


def _arrays(request: kserve.InferRequest) -> dict[str, Array]:
    arrays = {}
    for one in request.inputs:
        if one.name in arrays:
            raise InvalidInput(f"input {one.name!r} is given twice")
        try:
            arrays[one.name] = one.as_numpy()
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidInput(
                f"the data of input {one.name!r} do not fit {one.datatype} of shape {one.shape}"
            ) from error
    return arrays


def _response(
    request: kserve.InferRequest, name: str, made: Mapping[str, Array]
) -> kserve.InferResponse:
    outputs = []
    for one, array in made.items():
        output = kserve.InferOutput(one, list(array.shape), from_np_dtype(array.dtype), data=array)
        if request.from_grpc:  # over HTTP KServe does so itself, in JSON or binary as it is asked
            output.set_data_from_numpy(array, binary_data=True)
        outputs.append(output)
    return kserve.InferResponse(
        request.id or generate_uuid(),
        name,
        outputs,
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )
