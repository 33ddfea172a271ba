"""A real Triton over the repositories that eipack writes, asked by HTTP and by gRPC.

The server and the gRPC client are those of `make build/rivals/.installed`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.http as triton_http
from attrs import frozen
from eipack_serving.triton import write_repository
from tritonclient.utils import InferenceServerException

import eipack

from .conftest import Packed
from .test_asgi import ask_many, triton_inputs

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
RIVALS = ROOT / "build" / "rivals"
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
START_S = 120.0

TORCH_BACKEND = """\
import triton_python_backend_utils as utils
import torch


class TritonPythonModel:
    def initialize(self, args):
        path = args["model_repository"] + "/" + args["model_version"] + "/model.pt"
        self.model = torch.jit.load(path)

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        count = len(request.inputs())
        given = [utils.get_input_tensor_by_name(request, f"INPUT__{i}") for i in range(count)]
        with torch.inference_mode():
            made = self.model(*[torch.from_numpy(one.as_numpy().copy()) for one in given])
        made = [made] if isinstance(made, torch.Tensor) else made
        tensors = [utils.Tensor(f"OUTPUT__{i}", one.numpy()) for i, one in enumerate(made)]
        return utils.InferenceResponse(output_tensors=tensors)
"""
GRPC_CLIENT = """\
import sys
import numpy as np
import tritonclient.grpc as grpc

address, name, given, made = sys.argv[1:]
inputs = []
for key, array in np.load(given).items():
    inputs.append(grpc.InferInput(key, list(array.shape), "FP32"))
    inputs[-1].set_data_from_numpy(array)
client = grpc.InferenceServerClient(address)
metadata = client.get_model_metadata(name)
result = client.infer(name, inputs)
np.savez(made, **{one.name: result.as_numpy(one.name) for one in metadata.outputs})
"""


class Pair(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.linear(x)
        return y, y.argmax(-1, keepdim=True)


class Halved(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 2


@frozen
class Addresses:
    http: str
    grpc: str


def free_port() -> int:
    """Return a port that is free now: Triton cannot be given port 0."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def backends(folder: Path, packages: Path) -> Path:
    """Lay out the Python backend, and one in Python for the name pytorch.

    The wheel does not carry the PyTorch backend itself, which is in C++; the one that stands in
    for it follows the same names, and loads the same file.
    """
    server = packages / "pytriton" / "tritonserver"
    stub = server / "python_backend_stubs" / PYTHON.removeprefix("python")
    if not stub.is_dir():
        pytest.skip("no Triton for this Python; run: make build/rivals/.installed")
    shutil.copytree(server / "backends" / "python", folder / "python")
    shutil.copy2(stub / "triton_python_backend_stub", folder / "python")
    (folder / "pytorch").mkdir()
    (folder / "pytorch" / "model.py").write_text(TORCH_BACKEND)
    return folder


def linked(folder: Path, packages: Path) -> Path:
    """Link what the stub imports into the folder that it runs in, the only one that it looks at.

    NumPy is that of the server's own environment, which this stub needs; all else is of this one.
    """
    folder.mkdir()
    ours = Path(torch.__file__).parents[1]
    sources = list(packages.glob("numpy*"))
    sources += [one for one in ours.iterdir() if not one.name.startswith(("numpy", "__"))]
    sources += [ROOT / "eipack", *ROOT.glob("plugins/*/eipack_*")]
    for one in sources:
        if not (folder / one.name).is_symlink():
            (folder / one.name).symlink_to(one)
    return folder


@contextmanager
def triton(folder: Path, repository: Path) -> Iterator[Addresses]:
    """Run Triton over a repository until the block ends; its output goes to a file."""
    packages = RIVALS / "lib" / PYTHON / "site-packages"
    backend_folder = backends(folder / "backends", packages)
    http, grpc = free_port(), free_port()
    options = {
        "model-repository": repository,
        "backend-directory": backend_folder,
        "http-address": "127.0.0.1",
        "http-port": http,
        "grpc-address": "127.0.0.1",
        "grpc-port": grpc,
        "allow-metrics": "false",
    }
    binary = packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    libraries = [packages / "nvidia_pytriton.libs", Path(str(sysconfig.get_config_var("LIBDIR")))]
    environment = os.environ | {
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        "OMP_NUM_THREADS": "1",
    }
    command = [str(binary), *(f"--{key}={one}" for key, one in options.items())]
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=linked(folder / "site", packages),
            stdout=output,
            stderr=output,
            env=environment,
        )
    try:
        until = time.monotonic() + START_S
        while not ready(http):
            said = (folder / "output").read_text()[-4000:]
            assert process.poll() is None, f"it ended: {said}"
            assert time.monotonic() < until, f"it does not start: {said}"
            time.sleep(0.1)
        yield Addresses(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}")
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pair]:
    model = Pair().eval()
    batch = {0: torch.export.Dim("batch", min=1, max=16)}
    package = eipack.export(
        model,
        (torch.randn(2, 4),),
        dynamic_shapes={"x": batch},
        programs=["torchscript"],
        name="pair",
    )
    return package.save(tmp_path_factory.mktemp("pair") / "pair.eipack"), model


@pytest.fixture(scope="module")
def addresses(
    packed: Packed,
    pair: tuple[Path, Pair],
    accelerator: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Addresses]:
    folder = tmp_path_factory.mktemp("triton")
    x = torch.tensor([[1.0, 3.0]], dtype=torch.bfloat16)
    halved = eipack.export(Halved().eval(), (x,), name="halved").save(folder / "halved.eipack")
    models = folder / "models"
    write_repository(packed.path, models)
    write_repository(packed.path, models, name="whole", max_batch=0)
    write_repository(packed.path, models, name="remote", settings={"target": accelerator})
    write_repository(pair[0], models, backend="pytorch")
    write_repository(halved, models)
    with triton(folder, models) as found:
        yield found


def test_a_thousand_requests_of_eight_clients_are_all_right(
    addresses: Addresses, packed: Packed
) -> None:
    ask_many(addresses.http, packed, 1000, 8)


@pytest.mark.parametrize("model", ["whole", "remote"])
def test_every_target_gives_the_models_answers(
    addresses: Addresses, packed: Packed, model: str
) -> None:
    with triton_http.InferenceServerClient(addresses.http) as client:
        for rows in (1, 5, 16):
            inputs = packed.inputs(rows)
            result = client.infer(model, triton_inputs(inputs))
            packed.check(inputs, {name: result.as_numpy(name) for name in ("scores", "best")})


def test_it_is_asked_by_grpc_too(addresses: Addresses, packed: Packed, tmp_path: Path) -> None:
    inputs = packed.inputs(3)
    np.savez(tmp_path / "given.npz", **inputs)
    (tmp_path / "client.py").write_text(GRPC_CLIENT)
    words = [addresses.grpc, "scorer", str(tmp_path / "given.npz"), str(tmp_path / "made.npz")]
    environment = {name: one for name, one in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [RIVALS / "bin" / "python", tmp_path / "client.py", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    packed.check(inputs, dict(np.load(tmp_path / "made.npz")))


def test_the_pytorch_backend_runs_the_torchscript_in_batches(
    addresses: Addresses, pair: tuple[Path, Pair]
) -> None:
    x = torch.randn(5, 4)
    one = triton_http.InferInput("INPUT__0", [5, 4], "FP32")
    one.set_data_from_numpy(x.numpy())
    with triton_http.InferenceServerClient(addresses.http) as client:
        assert client.get_model_config("pair")["max_batch_size"] == 16
        result = client.infer("pair", [one])
    with torch.no_grad():
        y, best = pair[1](x)
    np.testing.assert_allclose(result.as_numpy("OUTPUT__0"), y.numpy(), rtol=1e-4, atol=1e-5)
    assert result.as_numpy("OUTPUT__1").tolist() == best.tolist()


def test_bfloat16_goes_through(addresses: Addresses) -> None:
    body = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "shape": [1, 2],
                    "datatype": "BF16",
                    "parameters": {"binary_data_size": 4},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    raw = torch.tensor([1.0, 3.0], dtype=torch.bfloat16).view(torch.int16).numpy().tobytes()
    request = urllib.request.Request(
        f"http://{addresses.http}/v2/models/halved/infer",
        body + raw,
        {"Inference-Header-Content-Length": str(len(body))},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        data = answer.read()[int(answer.headers["Inference-Header-Content-Length"]) :]
    halves = torch.frombuffer(bytearray(data), dtype=torch.bfloat16)
    assert halves.tolist() == [0.5, 1.5]


def test_metadata_is_the_signature(addresses: Addresses) -> None:
    with triton_http.InferenceServerClient(addresses.http) as client:
        for model in ("scorer", "whole"):
            found = client.get_model_metadata(model)
            assert found["inputs"] == [
                {"name": "x", "datatype": "FP32", "shape": [-1, 8]},
                {"name": "shift", "datatype": "FP32", "shape": [-1, 4]},
            ]


def test_what_does_not_fit_is_a_bad_request(addresses: Addresses, packed: Packed) -> None:
    with triton_http.InferenceServerClient(addresses.http) as client:
        wrong = {**packed.inputs(), "x": np.zeros((2, 9), "float32")}
        with pytest.raises(InferenceServerException, match="400"):
            client.infer("scorer", triton_inputs(wrong))
        uneven = {**packed.inputs(2), "shift": packed.inputs(3)["shift"]}
        with pytest.raises(InferenceServerException, match="400"):
            client.infer("whole", triton_inputs(uneven))
