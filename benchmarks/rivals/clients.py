"""The client of all paths that eipack's own environment can speak, in one process, taking turns.

What differs between two paths is then the path: neither the process, nor the moment, nor the
core. A path's round trips are timed by the loop that `eipack.benchmark` times with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.rivals.payload import ANSWER, ANSWER_BYTES, SIZES
from benchmarks.rivals.timing import pin

if TYPE_CHECKING:
    from torch import Tensor

TURNS = 20
_SETTLING = 25
_WARM_UP = 200
Call = Callable[[], Any]
_sessions: dict[str, Any] = {}


def take_turns(text: str) -> None:
    """Tell the median ns of every path's calls, and the parts of the `eia` session's.

    `text` is JSON; its `paths` say where they lead.
    """
    from eipack.measuring.loop import time_calls, without_garbage_collection

    said = json.loads(text)
    pin(said["core"])
    with ExitStack() as stack:
        calls = _calls(said, stack)
        samples: dict[str, list[int]] = {name: [] for name in calls}
        with without_garbage_collection():
            for call in calls.values():
                time_calls(call, (), {}, _WARM_UP)
            order = list(calls)
            for _ in range(TURNS):
                for name in order:  # what ran before has its data in the caches
                    time_calls(calls[name], (), {}, _SETTLING)
                    samples[name] += time_calls(calls[name], (), {}, said["calls"] // TURNS)
                order.append(order.pop(0))
        p50 = {name: median(found) for name, found in samples.items()}
        print(json.dumps({"p50": p50, "split": _split()}), flush=True)


def _split() -> dict[str, float]:
    """Return where the time of the `eia` session's last calls went, in ns."""
    details = _sessions["eia"].info.details
    parts = ("serialise_ms", "network_ms", "queue_ms", "compute_ms")
    return {name.removesuffix("_ms"): 1e6 * details[name] for name in parts}


def growth(text: str) -> None:
    """Call for a while, then count how much the client and the server grow over further calls."""
    said = json.loads(text)
    pin(said["core"])
    with ExitStack() as stack:
        call = _calls(said, stack)["eia"]
        _repeat(call, said["warm_up"])
        before = _private(said["server"])
        _repeat(call, said["calls"])
        after = _private(said["server"])
    print(json.dumps([after[0] - before[0], after[1] - before[1]]), flush=True)


def _repeat(call: Call, times: int) -> None:
    for _ in range(times):
        call()


def _private(server: int) -> tuple[int, int]:
    """Return the unshared memory of this process and of the server, what is free given back."""
    import ctypes
    import gc

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return _unshared("self"), _unshared(str(server))


def _unshared(process: str) -> int:
    with open(f"/proc/{process}/smaps_rollup", encoding="ascii") as file:  # noqa: PTH123 - of proc
        return 1024 * sum(int(one.split()[1]) for one in file if one.startswith("Private_"))


def _calls(said: dict[str, Any], stack: ExitStack) -> dict[str, Call]:
    import torch

    x = torch.randn(SIZES[said["size"]], generator=torch.Generator().manual_seed(1))
    return {name: _CALLERS[name](path, said, x, stack) for name, path in said["paths"].items()}


def _session(path: Any, said: dict[str, Any], x: Tensor, stack: ExitStack) -> Call:
    """Return a call of an eipack session; `path` is its name and the accelerator's address."""
    import eipack

    name, listed = path
    if listed:
        os.environ["EIPACK_ACCELERATORS"] = listed
    target = "eia:0" if listed else "cpu"
    session = stack.enter_context(eipack.load(said["package"], target))
    _sessions[name] = session
    return lambda: session(x)


def _echo(path: Any, said: dict[str, Any], x: Tensor, stack: ExitStack) -> Call:
    from benchmarks.rivals.echo import caller

    port, awake = path
    return caller(port, x.numpy().data, awake=awake)


def _lean(path: Any, said: dict[str, Any], x: Tensor, stack: ExitStack) -> Call:
    """Return a call of eipack's own client, without a session, to whatever speaks the protocol."""
    from eipack_eia import oip
    from eipack_eia.client.connection import Wire
    from eipack_eia.client.infer import Layout, lay_out
    from eipack_eia.credentials import Credentials
    from eipack_eia.endpoint import Endpoint

    import eipack

    endpoint = Endpoint("127.0.0.1", path)
    wire = Wire(endpoint, Credentials(), None)
    stack.callback(wire.close)
    flat = x.flatten()
    with eipack.open(said["package"]) as package:
        signature = package.signature
    layout: Layout = lay_out(endpoint.netloc, "v2/models/echo/infer", signature, (flat,), {}, {})
    wanted = oip.raw(flat[:ANSWER])
    (first,), _ = layout.ask(wire, (flat,))
    if oip.raw(first) != wanted:
        raise RuntimeError(f"port {path} answers something else than the first {ANSWER} numbers")
    return lambda: layout.ask(wire, (flat,))


def _tritonclient(path: Any, said: dict[str, Any], x: Tensor, stack: ExitStack) -> Call:
    """Return a call of tritonclient.http, whose input is made anew, as each call has another."""
    client: Any = import_module("tritonclient.http")
    port, token_file, model = path
    connection = client.InferenceServerClient(f"127.0.0.1:{port}")
    stack.callback(connection.close)
    headers = None
    if token_file:
        with open(token_file, encoding="ascii") as file:  # noqa: PTH123 - as above
            headers = {"Authorization": f"Bearer {file.readline().split()[0]}"}
        model = _resident(connection, headers, said, stack, port)
        data = x.numpy()
    else:
        data = x.numpy().reshape(-1)

    def call() -> Any:
        given = client.InferInput("x", data.shape, "FP32")
        given.set_data_from_numpy(data)
        wanted = client.InferRequestedOutput("output")
        found = connection.infer(model, [given], outputs=[wanted], headers=headers)
        return found.as_numpy("output")

    if call().nbytes != ANSWER_BYTES:
        raise RuntimeError(f"port {port} does not answer {ANSWER_BYTES} bytes")
    return call


def _resident(
    connection: Any, headers: Any, said: dict[str, Any], stack: ExitStack, port: int
) -> str:
    """Return the name of the model, which a session of ours has uploaded and keeps resident."""
    import eipack

    os.environ["EIPACK_ACCELERATORS"] = f"127.0.0.1:{port}"
    stack.enter_context(eipack.load(said["package"], "eia:0"))
    stem = said["package"].rpartition("/")[2].removesuffix(".eipack")
    index = connection.get_model_repository_index(headers=headers)
    return next(
        str(one["name"])
        for one in index
        if one["name"].startswith(stem) and one.get("state") == "READY"
    )


_CALLERS: dict[str, Callable[[Any, dict[str, Any], Tensor, ExitStack], Call]] = {
    "local": _session,
    "eia": _session,
    "eia tls": _session,
    "echo": _echo,
    "echo awake": _echo,
    "tritonclient": _tritonclient,
    "triton": _tritonclient,
    "triton lean": _lean,
    "uvicorn": _lean,
}
