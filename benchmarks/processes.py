"""Fresh processes: each reading comes from one, with a signing key of the benchmarks' own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import IO, Any, cast

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "bench"
PYTHON = (sys.executable, "-W", "ignore")
EIPACK = (*PYTHON, str(Path(sys.executable).with_name("eipack")))
_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("EIPACK_")},
    "EIPACK_CONFIG_DIR": str(FOLDER / "config"),
    "HF_HUB_OFFLINE": "1",
}


def child(function: Callable[..., Any], *arguments: object) -> subprocess.Popen[str]:
    """Start a process that calls a function of `benchmarks.children` and prints JSON."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    module, name = function.__module__, function.__name__
    code = f"import sys; from {module} import {name}; {name}(*sys.argv[1:])"
    return subprocess.Popen(  # noqa: S603 - only functions of `benchmarks.children` come here
        [*PYTHON, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env=_ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen[str]) -> Any:
    """Wait for a child to end and return what it printed.

    Raises:
        RuntimeError: It failed; why is on stderr already.
    """
    out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"a benchmark's process ended with code {process.returncode}")
    return json.loads(out)


def line(process: subprocess.Popen[str]) -> Any:
    """Return the next line of JSON that a running child prints."""
    return json.loads(cast("IO[str]", process.stdout).readline())


def ask(process: subprocess.Popen[str]) -> Any:
    """Wake a child that waits for a line, and return its answer."""
    stdin = cast("IO[str]", process.stdin)
    stdin.write("\n")
    stdin.flush()
    return line(process)


def fresh(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function of `benchmarks.children` in a fresh process and return what it printed."""
    return answer(child(function, *arguments))


def wall_ms(command: Sequence[str]) -> float:
    """Return how long a command takes from start to end.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    start = perf_counter()
    subprocess.run(  # noqa: S603 - the commands are those of `startup`
        command, cwd=ROOT, env=_ENVIRONMENT, check=True, stdout=subprocess.DEVNULL
    )
    return (perf_counter() - start) * 1e3


def imports_of(command: Sequence[str]) -> set[str]:
    """Return the modules that a Python command imports."""
    python, *rest = command
    done = subprocess.run(  # noqa: S603 - as above
        [python, "-X", "importtime", *rest],
        cwd=ROOT,
        env=_ENVIRONMENT,
        check=True,
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}
