"""A Ray cluster of one node on this host, for `--address local`; it stays until `pool down`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import psutil

from eipack.errors import AcceleratorUnavailable, KeyUnavailable
from eipack.threads import usable_cores
from eipack.trust.folder import changing, config_folder, write_whole

QUIET: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
"""Ray's own environment: it reports nothing home, and warns of nothing that pools rely on."""

_FILE: Final = "pools-local.json"
_REMEDY: Final = "set EIPACK_CONFIG_DIR to a folder"
_START_S: Final = 60.0
_STOP_S: Final = 30.0
_OBJECTS_BYTES: Final = 100_000_000


def start(processors: float) -> None:
    """Start this user's local cluster, unless it runs.

    It offers the processors that this process has, or `processors` if that is more.

    Raises:
        AcceleratorUnavailable: It does not start.
        KeyUnavailable: There is no folder to remember it in.
    """
    path = _path()
    with changing(path.parent, _REMEDY):
        if _found(path) is None:
            token = path.with_suffix(".token")
            write_whole(token, token_hex(32).encode())
            found = _start(max(float(usable_cores()), processors), token)
            write_whole(path, json.dumps(found).encode())


def running() -> str | None:
    """Return the address of this user's local cluster; None if there is none."""
    folder = config_folder()
    found = None if folder is None else _found(folder / _FILE)
    return None if found is None else str(found["address"])


def secrets_for(address: str) -> dict[str, str]:
    """Return what Ray's environment needs to speak to the local cluster; nothing for others.

    Ray listens on every interface of the host, and whoever reaches it can run code there.
    """
    folder = config_folder()
    if folder is None or address != running():
        return {}
    return _secrets((folder / _FILE).with_suffix(".token"))


def _secrets(token: Path) -> dict[str, str]:
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


def stop() -> None:
    """Stop this user's local cluster, if there is one."""
    path = _path()
    found = _found(path)
    if found is None:
        return
    process = psutil.Process(found["pid"])
    process.send_signal(signal.SIGTERM)  # with --block, Ray ends its processes upon it
    try:
        process.wait(_STOP_S)
    except psutil.TimeoutExpired:
        for one in [*process.children(recursive=True), process]:
            one.kill()
    for one in (path, path.with_suffix(".token")):
        one.unlink(missing_ok=True)


def _path() -> Path:
    folder = config_folder()
    if folder is None:
        raise KeyUnavailable(f"there is no home folder to remember a cluster in; {_REMEDY}")
    return folder / _FILE


def _found(path: Path) -> dict[str, Any] | None:
    """Read which cluster was started, unless its process has ended."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        # A process that was given the same number later has another time of birth.
        alive = psutil.Process(found["pid"]).create_time() == found["created"]
    except (FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess):
        return None
    return found if alive else None


def _start(processors: float, token: Path) -> dict[str, Any]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(  # noqa: S603 - Ray's own command line
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
            "--node-ip-address=127.0.0.1",
            f"--port={port}",
            f"--num-cpus={processors:g}",
            f"--object-store-memory={_OBJECTS_BYTES}",
            "--include-dashboard=false",
            "--disable-usage-stats",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # it outlives this command
        env=os.environ | QUIET | _secrets(token),
    )
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1.0):
                created = psutil.Process(process.pid).create_time()
                return {"pid": process.pid, "created": created, "address": f"127.0.0.1:{port}"}
        except OSError:
            time.sleep(0.2)
    process.kill()
    raise AcceleratorUnavailable(
        "a local Ray cluster does not start; what it says: ray start --head --block"
    )
