"""What runs in fresh processes where an accelerator is measured: the server, and its clients.

Arguments arrive as text, results leave as one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from tempfile import TemporaryDirectory
from time import perf_counter_ns, sleep
from typing import Any

_PROOF_S = 120.0


def make_batchable(path: str) -> None:
    """Export an MLP of four layers that takes batches of any size, and save its package."""
    import torch

    import eipack

    torch.manual_seed(0)
    sizes = (512, 2048, 2048, 512)
    layers = [torch.nn.Linear(*pair) for pair in pairwise(sizes)]
    model = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
    batch = torch.export.Dim("batch", min=1, max=64)
    package = eipack.export(
        model.eval(),
        (torch.randn(1, 512),),
        method="trace",
        dynamic_shapes={"input": {0: batch}},
        programs=["torchscript"],
        name="mlp",
    )
    package.save(path)
    _tell(None)


def serve(*words: str) -> None:
    """Run `eipack eia serve` until SIGTERM, with a store that goes with it."""
    from eipack.cli import main

    with TemporaryDirectory() as store:
        fixed = ["--json", "--listen", "127.0.0.1:0", "--memory-gb", "1", "--store", store]
        sys.argv = ["eipack", "eia", "serve", *fixed, *words]
        main()


def flood(endpoint: str, path: str, threads: str, seconds: str) -> None:
    """Open a package there, say so; then call from so many threads, and tell latencies in ns."""
    os.environ["EIPACK_ACCELERATORS"] = endpoint
    import torch

    import eipack

    torch.set_num_threads(1)
    count = int(threads)
    inputs = torch.randn(count, 1, 512)
    with eipack.load(path, "eia:0") as session, ThreadPoolExecutor(count) as pool:
        list(pool.map(session, inputs))
        _tell("ready")
        sys.stdin.readline()
        until = perf_counter_ns() + int(float(seconds) * 1e9)
        found = list(pool.map(lambda x: _calls_until(session, x, until), inputs))
        _tell([latency for latencies in found for latency in latencies])
        sys.stdin.readline()


def light(endpoint: str, path: str, seconds: str, pause_s: str) -> None:
    """Open a package there, say so; then call now and then, and tell latencies in ns."""
    os.environ["EIPACK_ACCELERATORS"] = endpoint
    import torch

    import eipack

    torch.set_num_threads(1)
    x = torch.randn(1, 512)
    with eipack.load(path, "eia:0") as session:
        for _ in range(20):
            session(x)
        _tell("ready")
        sys.stdin.readline()
        until = perf_counter_ns() + int(float(seconds) * 1e9)
        latencies = []
        while perf_counter_ns() < until:
            sleep(float(pause_s))
            began = perf_counter_ns()
            session(x)
            latencies.append(perf_counter_ns() - began)
        _tell(latencies)
        sys.stdin.readline()


def settle(endpoint: str) -> None:
    """Wait until it is decided whether calls of the models there share batches; tell statistics."""
    os.environ["EIPACK_ACCELERATORS"] = endpoint
    from eipack_eia import attached
    from eipack_eia.client.control import Control

    one = attached.visible()[0]
    control = Control(one.endpoint, one.credentials)
    until = perf_counter_ns() + int(_PROOF_S * 1e9)
    [stats] = control.json("GET", "v2/models/stats")["model_stats"]
    while perf_counter_ns() < until:
        described = control.json("GET", f"v2/models/{stats['name']}")
        batching = described.get("parameters", {}).get("batching", "off")
        if "being shown" not in batching:
            break
        sleep(0.05)
    _tell({"batching": batching, "batches": stats["batch_stats"]})


def _calls_until(session: Any, x: Any, until: int) -> list[int]:
    latencies = []
    began = perf_counter_ns()
    while began < until:
        session(x)
        ended = perf_counter_ns()
        latencies.append(ended - began)
        began = ended
    return latencies


def _tell(value: object) -> None:
    print(json.dumps(value), flush=True)
