"""The Open Inference Protocol's inference on uvicorn with httptools and uvloop; it runs no model.

Runs in the rivals' environment: `python -m benchmarks.rivals.asgi`.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from benchmarks.rivals.payload import ANSWER, ANSWER_BYTES

_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]
_orjson: Any = import_module("orjson")


async def answer(scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
    """Answer an inference request with the first of the input's numbers."""
    if scope["type"] != "http":
        return
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"".join(parts)
    size = int(dict(scope["headers"])[b"inference-header-content-length"])
    document = _orjson.loads(body[:size])
    data = body[size : size + ANSWER_BYTES]
    head = _orjson.dumps(
        {"model_name": "echo", "outputs": [_output(data)], "id": document.get("id", "")}
    )
    headers = [
        (b"inference-header-content-length", str(len(head)).encode()),
        (b"content-length", str(len(head) + len(data)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": head + data})


def _output(data: bytes) -> dict[str, Any]:
    size = {"binary_data_size": len(data)}
    return {"name": "output", "datatype": "FP32", "shape": [ANSWER], "parameters": size}


def serve() -> None:
    """Listen at a free port, say which, and answer until ended."""
    uvicorn: Any = import_module("uvicorn")
    listening = socket.create_server(("127.0.0.1", 0))
    print(json.dumps({"port": listening.getsockname()[1]}), flush=True)
    config = uvicorn.Config(
        answer, http="httptools", loop="uvloop", log_level="error", access_log=False, lifespan="off"
    )
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    serve()
