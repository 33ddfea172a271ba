"""Triton Inference Server from the wheel nvidia-pytriton, as a process of its own.

Its Python stub looks for NumPy in the working folder first, and needs NumPy 1.26: with NumPy 2
outputs come back empty. It needs CPython's shared library and the wheel's own ones.
"""

from __future__ import annotations

import shutil
import socket
import sys
import sysconfig
import urllib.request
from pathlib import Path
from subprocess import Popen
from time import monotonic, sleep

from benchmarks.processes import FOLDER
from benchmarks.rivals.servers import RIVALS, Launch, Missing

_START_S = 60.0
_CONFIG = """\
name: "echo"
backend: "python"
max_batch_size: 0
input [{name: "x" data_type: TYPE_FP32 dims: [-1]}]
output [{name: "output" data_type: TYPE_FP32 dims: [1000]}]
instance_group [{kind: KIND_CPU count: 1}]
"""


def triton() -> Launch:
    """Lay a model repository out; return how the server is started over it.

    Raises:
        Missing: The wheel is not installed, or has no stub for this Python.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = RIVALS / "lib" / version / "site-packages"
    server = packages / "pytriton" / "tritonserver"
    stub = server / "python_backend_stubs" / version.removeprefix("python")
    if not server.is_dir():
        raise Missing("nvidia-pytriton is not in build/rivals; run `make bench-wire`")
    if not stub.is_dir():
        raise Missing(f"the wheel nvidia-pytriton has no stub for {version}")
    folder = FOLDER / "triton"
    shutil.rmtree(folder, ignore_errors=True)
    backend = folder / "backends" / "python"
    shutil.copytree(server / "backends" / "python", backend)
    shutil.copy2(stub / "triton_python_backend_stub", backend)
    model = folder / "models" / "echo"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(_CONFIG, encoding="ascii")
    shutil.copy2(Path(__file__).with_name("triton_model.py"), model / "1" / "model.py")
    port = _free_port()
    libraries = [packages / "nvidia_pytriton.libs", Path(str(sysconfig.get_config_var("LIBDIR")))]
    options = {
        "model-repository": folder / "models",
        "backend-directory": folder / "backends",
        "model-control-mode": "explicit",
        "load-model": "echo",
        "http-address": "127.0.0.1",
        "http-port": port,
        "allow-grpc": "false",
        "allow-metrics": "false",
        "log-info": "false",
        "log-warning": "false",
        "log-error": "false",
    }
    return Launch(
        (str(server / "bin" / "tritonserver"), *(f"--{key}={one}" for key, one in options.items())),
        folder=str(packages),
        environment={"LD_LIBRARY_PATH": ":".join(map(str, libraries))},
        port=port,
    )


def wait_until_ready(process: Popen[str], port: int) -> None:
    """Wait until Triton serves.

    Raises:
        Missing: It has ended, or takes too long.
    """
    until = monotonic() + _START_S
    while monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/echo/ready", timeout=5):
                return
        except OSError:
            sleep(0.1)
    raise Missing(f"Triton did not start (code {process.poll()}); start it by hand to see why")


def _free_port() -> int:
    """Return a port that is free now: Triton cannot be given port 0."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
