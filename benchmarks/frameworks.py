"""A serving framework as a process: with eipack's adapter, or with a minimal handler of its own.

Runs in the framework's environment: `python -m benchmarks.frameworks NAME SIDE PACKAGE SIZE PORT`,
where SIDE is `adapter` or `minimal`. The minimal handlers take and give raw float32, or the tensors
that the framework has read, and call the eager model.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import torch

from benchmarks.rivals.packages import Reader
from benchmarks.rivals.payload import SIZES

MODEL: Final = "reader"
_QUIET: Final = "error"


def _forward(size: str) -> Callable[[bytes], bytes]:
    """Return the eager model as a function of bytes."""
    model, shape = Reader().eval(), SIZES[size]

    def run(body: bytes) -> bytes:
        x = torch.frombuffer(bytearray(body), dtype=torch.float32).reshape(shape)
        with torch.inference_mode():
            return bytes(model(x).numpy().data)

    return run


def fastapi(side: str, package: str, size: str, port: int) -> None:
    """Serve by uvicorn."""
    uvicorn: Any = import_module("uvicorn")
    if side == "adapter":
        from eipack_serving import PackageService
        from eipack_serving.asgi import application

        app: Any = application(PackageService(package))
    else:
        app = _minimal_fastapi(_forward(size))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level=_QUIET)


def _minimal_fastapi(forward: Callable[[bytes], bytes]) -> Any:
    framework: Any = import_module("fastapi")
    concurrency: Any = import_module("fastapi.concurrency")
    app = framework.FastAPI()

    async def infer(request: Any) -> Any:
        made = await concurrency.run_in_threadpool(forward, await request.body())
        return framework.Response(made, media_type="application/octet-stream")

    infer.__annotations__["request"] = framework.Request  # by which FastAPI knows what it wants
    app.post("/")(infer)
    return app


def kserve(side: str, package: str, size: str, port: int) -> None:
    """Serve by KServe's own server."""
    framework: Any = import_module("kserve")
    if side == "adapter":
        made = import_module("eipack_serving.kserve").PackageModel(MODEL, package)
        made.load()
    else:
        made = _minimal_kserve(framework)
    server = framework.ModelServer(http_port=port, enable_grpc=False, enable_latency_logging=False)
    logging.getLogger("kserve.trace").setLevel(logging.ERROR)  # it prints lines for each request
    server.start([made])


def _minimal_kserve(framework: Any) -> Any:
    model = Reader().eval()

    class Minimal(framework.Model):  # type: ignore[misc]
        """A model as KServe's own pages write one."""

        async def predict(
            self, payload: Any, headers: Any = None, response_headers: Any = None
        ) -> Any:
            """Answer one request."""
            with torch.inference_mode():
                made = model(torch.from_numpy(payload.inputs[0].as_numpy().copy())).numpy()
            output = framework.InferOutput("output", list(made.shape), "FP32", data=made)
            return framework.InferResponse(
                payload.id, MODEL, [output], use_binary_outputs=payload.use_binary_outputs
            )

    made = Minimal(MODEL)
    made.ready = True
    return made


def ray(side: str, package: str, size: str, port: int) -> None:
    """Serve by one replica on a Ray of this process's own."""
    cluster: Any = import_module("ray")
    serve: Any = import_module("ray.serve")
    cluster.init("local", num_cpus=2, include_dashboard=False, object_store_memory=100_000_000)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    if side == "adapter":
        app = import_module("eipack_serving.rayserve").deployment(package)
    else:
        app = _minimal_ray(serve, size)
    serve.run(app, blocking=True)


def _minimal_ray(serve: Any, size: str) -> Any:
    class Minimal:
        """A deployment as Ray's own pages write one."""

        def __init__(self) -> None:
            self._forward = _forward(size)

        async def __call__(self, request: Any) -> Any:
            """Answer one request."""
            response: Any = import_module("starlette.responses").Response
            return response(self._forward(await request.body()))

    return serve.deployment(Minimal).bind()


SERVERS: Final[dict[str, Callable[[str, str, str, int], None]]] = {
    "fastapi": fastapi,
    "kserve": kserve,
    "ray": ray,
}


def _silence_stdout() -> None:
    """Let nobody have to read what frameworks print for each request."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)


if __name__ == "__main__":
    _silence_stdout()
    name, side, package, size, port = sys.argv[1:]
    SERVERS[name](side, package, size, int(port))
