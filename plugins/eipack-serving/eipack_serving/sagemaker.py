"""A package in a container of Amazon SageMaker's: `/ping` and `/invocations` on port 8080.

Requests are JSON of the Open Inference Protocol, the same with its binary tensors (as a client of
Triton sends it to SageMaker, or with the protocol's header), one array as `application/x-npy`, or
arrays by name as `application/x-safetensors`. They are answered in the form they have.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from starlette.responses import Response
from starlette.routing import Route

from eipack_serving.arrays import array_of, leaves_of, tensor_from
from eipack_serving.asgi import application, body_of, infer, response_of
from eipack_serving.failures import BadRequest
from eipack_serving.messages import Message, answer
from eipack_serving.service import PackageService

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

    from eipack.session import Session

NPY: Final = "application/x-npy"
SAFETENSORS: Final = "application/x-safetensors"
TRITON: Final = "application/vnd.sagemaker-triton.binary+json"
_PLAIN: Final = ("", "application/json", "application/octet-stream")


def container(service: PackageService) -> Starlette:
    """Serve a package as SageMaker asks for it; the protocol's own paths are there too."""

    async def ping(_: Request) -> Response:
        return Response(status_code=200 if service.ready else 503)

    async def invoked(request: Request) -> Response:
        return await _invoked(service, request)

    routes = [Route("/ping", ping), Route("/invocations", invoked, methods=["POST"])]
    return application(service, routes=routes)


async def _invoked(service: PackageService, request: Request) -> Response:
    announced = request.headers.get("content-type", "")
    kind, _, rest = announced.partition(";")
    kind = kind.strip().lower()
    if kind in _PLAIN:
        return await infer(service, request)
    body = await body_of(request)
    if kind == TRITON:
        found = re.search(r"json-header-size=(\d+)", rest)
        size = found and found[1]
        message = await service.arun(lambda one: answer(one, service.name, body, size))
        return _as_triton(message)
    if kind in _FORMS:
        read = _FORMS[kind]
        return Response(await service.arun(lambda one: read(one, bytes(body))), media_type=kind)
    known = ", ".join((*_PLAIN[1:], NPY, SAFETENSORS, TRITON))
    raise BadRequest(f"the content type {announced[:80]!r} is not taken; send {known}")


def _as_triton(message: Message) -> Response:
    if message.json_size is None:
        return response_of(message)
    return Response(message.body, media_type=f"{TRITON};json-header-size={message.json_size}")


def _npy(session: Session, body: bytes) -> bytes:
    """Run a model of one input and one output on an array in NumPy's own format."""
    signature = session.signature
    if len(signature.inputs) != 1 or len(signature.outputs) != 1:
        raise BadRequest(f"{NPY} holds one array, and the model has more; send {SAFETENSORS}")
    try:
        given = np.lib.format.read_array(io.BytesIO(body), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError) as error:
        raise BadRequest(f"the body is no array as numpy.save writes it: {error}") from error
    (output,) = session.run_flat(tensor_from(signature.inputs[0].name, given))
    written = io.BytesIO()
    np.save(written, array_of(output), allow_pickle=False)
    return written.getvalue()


def _safetensors(session: Session, body: bytes) -> bytes:
    """Run a model on tensors by name, in the format of safetensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load, save

    try:
        given = load(body)
    except (SafetensorError, ValueError, KeyError) as error:
        raise BadRequest(f"the body is no safetensors: {error}") from error
    outputs = session.run_flat(*leaves_of(session, given))
    named: dict[str, Any] = {
        spec.name: leaf.clone(memory_format=torch.contiguous_format)  # none may share memory
        for spec, leaf in zip(session.signature.outputs, outputs, strict=True)
    }
    return save(named)


_FORMS: Final = {NPY: _npy, SAFETENSORS: _safetensors}
