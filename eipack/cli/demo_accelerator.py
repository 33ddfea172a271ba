"""An accelerator for the demo: a process on this machine, attached while the demo runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

STOP_S = 30.0


@contextmanager
def accelerator(do: Callable[..., None], say: Callable[..., None]) -> Iterator[str | None]:
    """Serve a slice of the processor and attach it; give its target, None without the plugin.

    A host whose accelerators are listed by its environment keeps those, and gets None too.
    """
    try:
        from eipack_eia.attached import ACCELERATORS, VISIBLE, visible
    except ModuleNotFoundError:
        yield None
        return
    if {ACCELERATORS, VISIBLE} & set(os.environ):
        yield None
        return
    store = tempfile.mkdtemp(prefix="eipack-demo-")
    command = ["eia", "serve", "--on", "cpu", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(  # noqa: S603 - eipack's own command line
        [sys.executable, "-m", "eipack", *command, "--store", store, "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Any] = {}
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    try:
        found = json.loads(process.stdout.readline() or "{}")
        if not found:
            yield None
            return
        say(f"$ eipack {' '.join(command[:-2])} --listen {found['endpoint']} &", style="bold green")
        do("eia", "attach", found["endpoint"])
        one = next(one for one in visible() if one.id == found["id"])
        yield f"eia:{one.ordinal}"
    finally:
        if found:
            do("eia", "detach", found["id"])
        process.terminate()
        process.wait(STOP_S)
        process.stdout.close()
        shutil.rmtree(store, ignore_errors=True)
