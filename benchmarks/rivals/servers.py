"""Servers as processes of their own, pinned to the cores that the client leaves free."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any

from attrs import field, frozen

from benchmarks.processes import EIPACK, FOLDER, PYTHON, ROOT, child, line

RIVALS = ROOT / "build" / "rivals"
_STOP_S = 20.0


class Missing(Exception):
    """A rival cannot be run on this machine; the message says why."""


@frozen
class Launch:
    """How a server is started; `port` where it does not choose and tell one itself."""

    command: tuple[str, ...]
    folder: str = str(ROOT)
    environment: dict[str, str] = field(factory=dict)
    port: int | None = None


def cores() -> tuple[int, list[int]]:
    """Return the client's core, and the servers': the same one where there is no other."""
    first, *rest = sorted(os.sched_getaffinity(0))
    return first, rest or [first]


def become(text: str) -> None:
    """Turn this process into a server that may run on certain cores."""
    said = json.loads(text)
    os.sched_setaffinity(0, said["cores"])
    os.chdir(said["folder"])
    command = said["command"]
    os.execve(command[0], command, {**os.environ, **said["environment"]})  # noqa: S606 - our own


@contextmanager
def running(launch: Launch) -> Iterator[tuple[Popen[str], dict[str, Any]]]:
    """Run a server; give its process, and the line of JSON that it starts with.

    Raises:
        Missing: It ends before it says anything.
    """
    _, allowed = cores()
    said = {
        "cores": allowed,
        "folder": launch.folder,
        "command": launch.command,
        "environment": launch.environment,
    }
    process = child(become, json.dumps(said))
    try:
        yield process, {"port": launch.port} if launch.port else _first_line(process, launch)
    finally:
        _stop(process)


def _first_line(process: Popen[str], launch: Launch) -> dict[str, Any]:
    try:
        found: dict[str, Any] = line(process)
    except ValueError as error:
        raise Missing(f"{' '.join(launch.command[-3:])} did not start; see stderr") from error
    return found


def _stop(process: Popen[str]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=_STOP_S)
    except TimeoutExpired:
        process.kill()
        process.communicate()


def ours(module: str, *arguments: str) -> Launch:
    """Return how a module of `benchmarks.rivals` is started with eipack's own Python."""
    return Launch((*PYTHON, "-m", f"benchmarks.rivals.{module}", *arguments))


def theirs(module: str, *arguments: str) -> Launch:
    """Return how a module of `benchmarks.rivals` is started in the rivals' environment.

    Raises:
        Missing: There is none.
    """
    python = RIVALS / "bin" / "python"
    if not python.exists():
        raise Missing("build/rivals is not there; run `make bench-wire`")
    return Launch((str(python), "-W", "ignore", "-m", f"benchmarks.rivals.{module}", *arguments))


def accelerator(store: str, *words: str) -> Launch:
    """Return how `eipack eia serve` is started on the CPU, as a user starts it."""
    command = (*EIPACK, "eia", "serve", "--json", "--on", "cpu", "--listen", "127.0.0.1:0")
    if Path(EIPACK[-1]).exists():
        return Launch((*command, "--store", str(FOLDER / "stores" / store), *words))
    raise Missing(f"{EIPACK[-1]} is not there; install eipack into {sys.prefix}")
