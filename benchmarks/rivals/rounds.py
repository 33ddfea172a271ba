"""A round: every server started anew, then one client process a size, and the rivals' own clients.

All paths of a round are measured within seconds of each other, on the same two cores.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import psutil
from attrs import define, field

from benchmarks.processes import FOLDER, answer, fresh
from benchmarks.rivals import clients
from benchmarks.rivals.certificate import Secrets, make
from benchmarks.rivals.payload import SIZES
from benchmarks.rivals.servers import (
    Launch,
    Missing,
    accelerator,
    cores,
    ours,
    running,
    theirs,
)
from benchmarks.rivals.triton import triton, wait_until_ready

CALLS = 2000
WARM_UP_CALLS = 10_000
GROWTH_CALLS = 100_000
_OWN_CLIENTS = {"zeromq": "zeromq", "grpc": "grpc_oip"}
_ACCELERATORS = ("eia", "eia tls", "tritonclient")


@define
class Found:
    """What rounds have found: the p50s of each path in µs by size, and why some have none."""

    p50_us: dict[str, dict[str, list[float]]] = field(factory=dict)
    missing: dict[str, str] = field(factory=dict)

    def add(self, path: str, size: str, nanoseconds: float) -> None:
        """Add one median."""
        sizes = self.p50_us.setdefault(path, {one: [] for one in SIZES})
        sizes[size].append(nanoseconds / 1e3)


def run(packages: Mapping[str, Path], found: Found) -> None:
    """Measure every path once, for every size."""
    secrets = make(FOLDER / "tls")
    with ExitStack() as stack:
        said = {
            name: server
            for name, launch in _launches(secrets).items()
            if name not in found.missing
            and (server := _started(name, launch, stack, found)) is not None
        }
        for size, package in packages.items():
            document = _document(size, package, _paths(said, secrets))
            told = fresh(clients.take_turns, json.dumps(document))
            for path, p50 in (told["p50"] | told["split"]).items():
                found.add(path, size, p50)
            for name, module in _OWN_CLIENTS.items():
                if name in said:
                    found.add(name, size, _their_call(module, size, said[name]["port"]))


def growth(size: str, package: Path) -> tuple[float, float]:
    """Return by how many bytes client and server grow over 100,000 calls, once warm."""
    with running(accelerator("growth")) as (process, said):
        (worker,) = psutil.Process(process.pid).children()
        document = _document(size, package, {"eia": ("eia", said["endpoint"])})
        document |= {"server": worker.pid, "calls": GROWTH_CALLS, "warm_up": WARM_UP_CALLS}
        client, server = fresh(clients.growth, json.dumps(document))
        return client, server


def _document(size: str, package: Path, paths: Mapping[str, Any]) -> dict[str, Any]:
    core, _ = cores()
    return {"size": size, "package": str(package), "core": core, "calls": CALLS, "paths": paths}


def _launches(secrets: Secrets) -> dict[str, Callable[[], Launch]]:
    tls = ("--cert", str(secrets.certificate), "--key", str(secrets.key))
    return {
        "echo": lambda: ours("echo", "asleep"),
        "echo awake": lambda: ours("echo", "awake"),
        "eia": lambda: accelerator("eia"),
        "eia tls": lambda: accelerator("tls", *tls, "--token-file", str(secrets.token)),
        "tritonclient": lambda: accelerator("tritonclient"),
        "zeromq": lambda: theirs("zeromq", "serve"),
        "uvicorn": lambda: theirs("asgi"),
        "grpc": lambda: theirs("grpc_oip", "serve"),
        "triton": triton,
    }


def _started(
    name: str, launch: Callable[[], Launch], stack: ExitStack, found: Found
) -> dict[str, Any] | None:
    """Start a server for this round; note why if it cannot be started."""
    try:
        process, said = stack.enter_context(running(launch()))
        if name == "triton":
            wait_until_ready(process, said["port"])
    except Missing as error:
        if name in ("echo", *_ACCELERATORS):
            raise
        found.missing[name] = str(error)
        return None
    return said


def _paths(said: Mapping[str, Any], secrets: Secrets) -> dict[str, Any]:
    """Say where each path of the common client leads; see `clients` for what each needs."""
    tls = f"{said['eia tls']['endpoint']},ca={secrets.certificate},token-file={secrets.token}"
    ours_for_them = said["tritonclient"]["endpoint"].rpartition(":")[2]
    paths: dict[str, Any] = {
        "local": ("local", ""),
        "eia": ("eia", said["eia"]["endpoint"]),
        "echo": (said["echo"]["port"], False),
        "echo awake": (said["echo awake"]["port"], True),
        "eia tls": ("eia tls", tls),
        "tritonclient": (int(ours_for_them), said["tritonclient"]["token_file"], ""),
    }
    if "uvicorn" in said:
        paths["uvicorn"] = said["uvicorn"]["port"]
    if "triton" in said:
        paths["triton"] = (said["triton"]["port"], "", "echo")
        paths["triton lean"] = said["triton"]["port"]
    return paths


def _their_call(module: str, size: str, port: int) -> float:
    core, _ = cores()
    launch = theirs(module, "call", size, str(port), str(CALLS), str(core))
    process = Popen(  # noqa: S603 - our own module in the rivals' environment
        launch.command, cwd=launch.folder, env=os.environ, stdout=PIPE, text=True
    )
    p50: float = answer(process)
    return p50
