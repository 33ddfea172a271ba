"""What an accelerator answers to: the Open Inference Protocol, uploads, sessions and metrics."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, Final
from uuid import uuid4

import msgspec
from attrs import field, frozen

from eipack.errors import AcceleratorDenied, ProgramNotFound, ProtocolError
from eipack_eia import oip
from eipack_eia.calls import VERSION
from eipack_eia.server.access import Access, Rights
from eipack_eia.server.batching import OFF
from eipack_eia.server.description import Description
from eipack_eia.server.http import Request, Response
from eipack_eia.server.inference import Prepared, prepare
from eipack_eia.server.metrics import exposition
from eipack_eia.server.models import Model, Models
from eipack_eia.server.scheduler import Scheduler
from eipack_eia.server.store import Store

SERVER_NAME: Final = "eipack-eia"
EXTENSIONS: Final = (
    "binary_tensor_data",
    "eipack_packages",
    "eipack_sessions",
    "model_repository",
    "statistics",
)
FIXED_SERVER_NAME: Final = "eipack-serve"
FIXED_EXTENSIONS: Final = ("binary_tensor_data", "statistics")

Handler = Callable[["Routes", Request, Mapping[str, str]], "Response | Prepared"]


@frozen
class _Route:
    method: str
    pattern: re.Pattern[str]
    handler: Handler
    rights: Rights | None


_routes: list[_Route] = []


def _route(method: str, path: str, rights: Rights | None) -> Callable[[Handler], Handler]:
    """Register a handler; `{name}` stands for one part of the path."""
    pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))

    def register(handler: Handler) -> Handler:
        _routes.append(_Route(method, pattern, handler, rights))
        return handler

    return register


@frozen
class Routes:
    """The handlers with all that they need.

    Without a store and a description they are those of a server whose models are fixed: it takes
    no packages, and loads and unloads nothing on request.
    """

    models: Models
    store: Store | None
    scheduler: Scheduler
    access: Access
    description: Description | None
    draining: Callable[[], bool] = field(default=lambda: False, repr=False)

    def answer(self, request: Request) -> Response | Prepared:
        """Answer a request, or say how it is to be run.

        Raises:
            EipackError: It cannot be answered; the error says how it travels.
        """
        if not self.access.host_allowed(request.header("host")):
            raise AcceleratorDenied("the Host header names another host than this accelerator")
        known = [route for route in _routes if route.pattern.fullmatch(request.path)]
        found = next((route for route in known if route.method == request.method), None)
        if found is None:
            return _no_route(request, known)
        if self.store is None and _is_for_accelerators(found):
            raise AcceleratorDenied("this server's models are fixed; start it with other packages")
        if found.rights is not None:
            self.access.demand(found.rights, request.header("authorization"))
        match = found.pattern.fullmatch(request.path)
        assert match is not None  # noqa: S101 - it was found by this
        return found.handler(self, request, match.groupdict())

    def model(self, name: str) -> Model:
        """Return a resident model."""
        return self.models.find(name)


def _is_for_accelerators(route: _Route) -> bool:
    return route.rights is Rights.UPLOAD or route.pattern.pattern.startswith("v2/eipack/")


def _no_route(request: Request, known: list[_Route]) -> Response:
    if known:
        allowed = ", ".join(sorted({route.method for route in known}))
        message, status = f"{request.method} is not for {request.path}; {allowed} is", 405
        return Response(status, [msgspec.json.encode({"error": message})], {"Allow": allowed})
    message = f"there is nothing at /{request.path[:200]}"
    return Response(404, [msgspec.json.encode({"error": message})])


def _json(document: Any) -> Response:
    return Response(200, [msgspec.json.encode(document)])


def _document(request: Request) -> dict[str, Any]:
    """Read a JSON object from the body; an empty one is empty."""
    try:
        found = msgspec.json.decode(request.body) if len(request.body) else {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"the body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ProtocolError("the body is no JSON object")
    return found


@_route("GET", "v2/health/live", None)
def _live(routes: Routes, request: Request, parts: Mapping[str, str]) -> Response:
    return Response(200)


@_route("GET", "v2/health/ready", None)
def _ready(routes: Routes, request: Request, parts: Mapping[str, str]) -> Response:
    return Response(503 if routes.draining() else 200)


@_route("GET", "v2", Rights.INFER)
def _server(routes: Routes, request: Request, parts: Mapping[str, str]) -> Response:
    if routes.description is None:
        return _json(
            {
                "name": FIXED_SERVER_NAME,
                "version": metadata.version("eipack-eia"),
                "extensions": list(FIXED_EXTENSIONS),
            }
        )
    return _json(
        {
            "name": SERVER_NAME,
            "version": metadata.version("eipack-eia"),
            "extensions": list(EXTENSIONS),
            "accelerator": routes.description.document(
                routes.models, "draining" if routes.draining() else "healthy"
            ),
        }
    )


@_route("GET", "metrics", Rights.INFER)
def _metrics(routes: Routes, request: Request, parts: Mapping[str, str]) -> Response:
    data, content_type = exposition(routes.models, routes.scheduler)
    return Response(200, [data], content_type=content_type)


@_route("GET", "v2/models/stats", Rights.INFER)
def _all_statistics(routes: Routes, request: Request, parts: Mapping[str, str]) -> Response:
    return _json({"model_stats": [_statistics(model) for model in routes.models.resident()]})


@_route("GET", "v2/models/{name}(?:/versions/{version})?/ready", Rights.INFER)
def _model_ready(routes: Routes, request: Request, parts: Mapping[str, str]) -> Response:
    _check_version(parts)
    routes.model(parts["name"])
    return Response(200)


@_route("GET", "v2/models/{name}(?:/versions/{version})?", Rights.INFER)
def _model(routes: Routes, request: Request, parts: Mapping[str, str]) -> Response:
    _check_version(parts)
    model = routes.model(parts["name"])
    signature = model.session.signature
    return _json(
        {
            "name": model.name,
            "versions": [VERSION],
            "platform": f"eipack_{model.record.kind}",
            "inputs": [oip.describe(spec) for spec in signature.inputs],
            "outputs": [oip.describe(spec) for spec in signature.outputs],
            **_batching(model),
        }
    )


def _batching(model: Model) -> dict[str, Any]:
    """Say how many rows may share a batch, or why none may, where batches are made at all."""
    sharing = model.sharing
    if sharing is OFF:
        return {}
    return {"parameters": {"batch_rows": sharing.rows, "batching": sharing.reason or "on"}}


@_route("POST", "v2/models/{name}(?:/versions/{version})?/infer", Rights.INFER)
def _infer(routes: Routes, request: Request, parts: Mapping[str, str]) -> Prepared:
    _check_version(parts)
    return prepare(request, routes.model(parts["name"]))


def _check_version(parts: Mapping[str, str]) -> None:
    if parts.get("version") not in (None, VERSION):
        raise ProgramNotFound(f"model {parts['name']!r} has version {VERSION} alone")


@_route("GET", "v2/models/{name}(?:/versions/{version})?/stats", Rights.INFER)
def _model_statistics(routes: Routes, request: Request, parts: Mapping[str, str]) -> Response:
    _check_version(parts)
    return _json({"model_stats": [_statistics(routes.model(parts["name"]))]})


def _statistics(model: Model) -> dict[str, Any]:
    """Say what has happened to a model, as Triton's statistics extension does."""
    found = model.statistics
    count = found.inferences

    def duration(nanoseconds: int, times: int = count) -> dict[str, int]:
        return {"count": times, "ns": nanoseconds}

    return {
        "name": model.name,
        "version": VERSION,
        "last_inference": found.last_inference_ms,
        "inference_count": count,
        "execution_count": count - found.joined,
        "inference_stats": {
            "success": duration(found.queue_ns + found.compute_ns + found.transfer_ns),
            "fail": duration(0, found.failures),
            "queue": duration(found.queue_ns),
            "compute_input": duration(found.transfer_ns),
            "compute_infer": duration(found.compute_ns),
            "compute_output": duration(0),
        },
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": duration(0, times),
                "compute_infer": duration(spent, times),
                "compute_output": duration(0, times),
            }
            for rows, (times, spent) in sorted(found.batches.copy().items())
        ],
    }


@_route("POST", "v2/repository/index", Rights.INFER)
def _index(routes: Routes, request: Request, parts: Mapping[str, str]) -> Response:
    ready_only = _document(request).get("ready") is True
    resident = {model.name for model in routes.models.resident()}
    listed = []
    for known in routes.models.known():
        if known.name in resident:
            listed.append({"name": known.name, "version": VERSION, "state": "READY", "reason": ""})
        elif not ready_only:
            listed.append(
                {"name": known.name, "state": "UNAVAILABLE", "reason": "it is not loaded"}
            )
    return _json(listed)


@_route("POST", "v2/repository/models/{name}/load", Rights.UPLOAD)
def _load(routes: Routes, request: Request, parts: Mapping[str, str]) -> Response:
    given = _document(request).get("parameters")
    if given:
        raise ProtocolError(
            "load takes no files or settings here; upload a package with eipack, then load it"
        )
    routes.models.load(parts["name"])
    return Response(200)


@_route("POST", "v2/repository/models/{name}/unload", Rights.UPLOAD)
def _unload(routes: Routes, request: Request, parts: Mapping[str, str]) -> Response:
    routes.models.unload(parts["name"])
    return Response(200)


@_route("POST", "v2/eipack/packages", Rights.UPLOAD)
def _begin(routes: Routes, request: Request, parts: Mapping[str, str]) -> Response:
    document = _document(request)
    manifest, signings = document.get("manifest"), document.get("signings")
    if not isinstance(manifest, str) or not isinstance(signings, dict):
        raise ProtocolError("an upload begins with a manifest and its signings")
    if not all(isinstance(text, str) for text in signings.values()):
        raise ProtocolError("a signing is a text")
    offer = _store(routes).begin(
        manifest.encode(), {name: text.encode() for name, text in signings.items()}
    )
    missing = [{"digest": m.digest, "size": m.size, "have": m.have} for m in offer.missing]
    return _json({"package": offer.package, "missing": missing})


@_route("PUT", "v2/eipack/blobs/{digest}", Rights.UPLOAD)
def _blob(routes: Routes, request: Request, parts: Mapping[str, str]) -> Response:
    offset = request.query.get("offset", "0")
    if not (offset.isascii() and offset.isdigit()):
        raise ProtocolError(f"offset {offset[:40]!r} is no number")
    return _json({"have": _store(routes).append(parts["digest"], int(offset[:20]), request.body)})


@_route("POST", "v2/eipack/packages/{package}/commit", Rights.UPLOAD)
def _commit(routes: Routes, request: Request, parts: Mapping[str, str]) -> Response:
    _store(routes).commit(parts["package"])
    return _json({"package": parts["package"]})


def _store(routes: Routes) -> Store:
    assert routes.store is not None  # noqa: S101 - `answer` lets nobody come here without one
    return routes.store


@_route("POST", "v2/eipack/sessions", Rights.INFER)
def _open_session(routes: Routes, request: Request, parts: Mapping[str, str]) -> Response:
    document = _document(request)
    package, program = document.get("package"), document.get("program")
    if not isinstance(package, str) or not isinstance(program, str | None):
        raise ProtocolError("a session is opened on a package, and on a program of it if named")
    lease = uuid4().hex
    model = routes.models.open(package, program, lease)
    return _json(
        {
            "session": lease,
            "model": model.name,
            "program": model.record.id,
            "target": str(model.session.target),
        }
    )


@_route("DELETE", "v2/eipack/sessions/{session}", Rights.INFER)
def _close_session(routes: Routes, request: Request, parts: Mapping[str, str]) -> Response:
    if not routes.models.release(parts["session"]):
        raise ProgramNotFound("there is no such session on this accelerator")
    return Response(200)
