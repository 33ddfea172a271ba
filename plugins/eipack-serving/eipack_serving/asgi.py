"""Packages as an ASGI application that speaks the Open Inference Protocol, to run or to mount."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from eipack_eia.oip import JSON_LENGTH_HEADER
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Route

from eipack.errors import EipackError
from eipack_serving.failures import BadRequest, status_of
from eipack_serving.messages import Message, answer
from eipack_serving.service import PackageService

if TYPE_CHECKING:
    from starlette.requests import Request

MOST_BYTES: Final = 1_000_000_000
"""The largest request that is read."""


def application(*services: PackageService, routes: Iterable[BaseRoute] = ()) -> Starlette:
    """Serve packages by their names; `routes` are further ones.

    It starts the services before it answers and drains them at the end. Mounted in another
    application they start at their first request, or by `lifespan` given to that one.

    Raises:
        ValueError: Two packages have one name.
    """
    models = {service.name: service for service in services}
    if len(models) < len(services):
        raise ValueError("two packages have one name; export one of them again with another name=")
    return Starlette(
        routes=[*_routes(models), *routes],
        lifespan=lifespan(*services),
        exception_handlers={EipackError: _failed, HTTPException: _refused},
    )


async def answered(app: Starlette, request: Request) -> Response:
    """Answer a request that another framework has read, as the application does."""
    try:
        response: Response = await _route_of(app, request).endpoint(request)
    except EipackError as error:
        return await _failed(request, error)
    except HTTPException as error:
        return await _refused(request, error)
    return response


def _route_of(app: Starlette, request: Request) -> Route:
    for route in app.routes:
        match, parts = route.matches(request.scope)
        if match is Match.FULL and isinstance(route, Route):
            request.scope.update(parts)
            return route
        if match is Match.PARTIAL:
            raise HTTPException(405, f"{request.url.path} takes no {request.method}")
    raise HTTPException(404, f"there is nothing at {request.url.path}")


def lifespan(*services: PackageService) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Return what starts services with an application, and drains and closes them with it."""

    @asynccontextmanager
    async def alive(app: Any) -> AsyncIterator[None]:
        try:
            for service in services:
                await asyncio.to_thread(service.start)
            yield
        finally:
            for service in services:
                await asyncio.to_thread(service.__exit__)

    return alive


async def body_of(request: Request) -> bytearray:
    """Read a request's body into memory that tensors can be views of.

    Raises:
        BadRequest: It is larger than `MOST_BYTES`.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            raise BadRequest(f"the body has more than {MOST_BYTES} bytes, which are not read here")
    return body


def response_of(message: Message) -> Response:
    """Return an answer with the headers that it needs."""
    return Response(message.body, 200, message.headers, message.content_type)


def _routes(models: Mapping[str, PackageService]) -> list[BaseRoute]:
    def of_model(work: Callable[[PackageService, Request], Awaitable[Response]]) -> Any:
        async def at_model(request: Request) -> Response:
            service = models.get(name := request.path_params["name"])
            asked = request.path_params.get("version")
            if service is None:
                raise HTTPException(404, f"there is no model {name!r} here")
            if asked not in (None, *service.versions):
                known = ", ".join(service.versions)
                raise HTTPException(404, f"model {name!r} has version {known} alone")
            return await work(service, request)

        return at_model

    async def live(_: Request) -> Response:
        return Response()

    async def ready(_: Request) -> Response:
        return Response(status_code=200 if all(one.ready for one in models.values()) else 503)

    async def server(_: Request) -> Response:
        said = {"name": "eipack-serving", "version": version("eipack-serving")}
        return JSONResponse({**said, "extensions": ["binary_tensor_data"]})

    found = [Route("/v2/health/live", live), Route("/v2/health/ready", ready), Route("/v2", server)]
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        found += [
            Route(path, of_model(_metadata)),
            Route(f"{path}/ready", of_model(_ready)),
            Route(f"{path}/infer", of_model(infer), methods=["POST"]),
        ]
    return [*found]


async def _metadata(service: PackageService, request: Request) -> Response:
    return JSONResponse(service.metadata())


async def _ready(service: PackageService, request: Request) -> Response:
    return Response(status_code=200 if service.ready else 503)


async def infer(service: PackageService, request: Request) -> Response:
    """Answer one inference request."""
    body, size = await body_of(request), request.headers.get(JSON_LENGTH_HEADER)
    return response_of(await service.arun(lambda one: answer(one, service.name, body, size)))


async def _failed(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_of(error))


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for this class alone
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
