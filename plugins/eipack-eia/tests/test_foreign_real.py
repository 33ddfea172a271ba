"""A real Triton and a real MLServer as accelerators, each from its wheel in `build/foreign`."""

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
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from eipack_eia import attached
from eipack_eia.attached import made_id
from eipack_eia.cli import eia as eia_group
from eipack_eia.client.control import Control
from eipack_eia.client.foreign_model import is_ready
from eipack_eia.client.triton import Upload
from eipack_eia.endpoint import Endpoint
from torch import nn

import eipack
from eipack.errors import (
    AcceleratorDenied,
    AcceleratorUnavailable,
    ParityFailed,
    SignatureMismatch,
    UnsupportedModel,
)

pytestmark = pytest.mark.long

ENVIRONMENTS = Path(__file__).parents[3] / "build" / "foreign"
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
START_S = 120.0
X, BIAS = torch.linspace(-1, 1, 8).reshape(2, 4), torch.tensor([1.0, 2.0, 3.0, 4.0])

TORCH_BACKEND = """\
import sys

sys.path.append({packages!r})
import torch
import triton_python_backend_utils as utils


class TritonPythonModel:
    def initialize(self, args):
        path = args["model_repository"] + "/" + args["model_version"] + "/model.pt"
        self.model = torch.jit.load(path)

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        count = len(request.inputs())
        given = [utils.get_input_tensor_by_name(request, f"INPUT__{{i}}") for i in range(count)]
        with torch.inference_mode():
            made = self.model(*[torch.from_numpy(one.as_numpy().copy()) for one in given])
        made = [made] if isinstance(made, torch.Tensor) else made
        names = [f"OUTPUT__{{i}}" for i in range(len(made))]
        tensors = [utils.Tensor(n, one.numpy()) for n, one in zip(names, made)]
        return utils.InferenceResponse(output_tensors=tensors)
"""
TRITON_MODEL = """\
import triton_python_backend_utils as utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        x = utils.get_input_tensor_by_name(request, "x").as_numpy()
        bias = utils.get_input_tensor_by_name(request, "bias").as_numpy()
        scaled = utils.Tensor("scaled", (2 * x + bias).astype("float32"))
        total = utils.Tensor("total", x.sum(-1, keepdims=True).astype("float32"))
        return utils.InferenceResponse(output_tensors=[total, scaled])
"""
TRITON_CONFIG = """\
backend: "python"
max_batch_size: 0
input [{name: "bias" data_type: TYPE_FP32 dims: [4]},
       {name: "x" data_type: TYPE_FP32 dims: [-1, 4]}]
output [{name: "total" data_type: TYPE_FP32 dims: [-1, 1]},
        {name: "scaled" data_type: TYPE_FP32 dims: [-1, 4]}]
"""
MLSERVER_MODEL = """\
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Scale(MLModel):
    async def predict(self, payload):
        given = {one.name: NumpyCodec.decode_input(one) for one in payload.inputs}
        x, bias = given["x"], given["bias"]
        factor = self.settings.parameters.extra["factor"]
        outputs = [
            NumpyCodec.encode_output("total", x.sum(-1, keepdims=True)),
            NumpyCodec.encode_output("scaled", (factor * x + bias).astype("float32")),
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
"""


class Scale(nn.Module):
    """It gives two outputs, by names that the servers' own models have too."""

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"scaled": 2 * x + bias, "total": x.sum(-1, keepdim=True)}


class Pair(nn.Module):
    """It gives a tuple, and has weights."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.linear(x) + bias, x.argmax(-1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("foreign")


def exported(model: nn.Module, path: Path) -> Path:
    batch = {0: torch.export.Dim("batch", min=1, max=8)}
    return eipack.export(
        model.eval(), (X, BIAS), dynamic_shapes={"x": batch, "bias": None}, target="eia"
    ).save(path)


@pytest.fixture(scope="module")
def scale(folder: Path) -> Path:
    return exported(Scale(), folder / "scale.eipack")


@pytest.fixture(scope="module")
def pair(folder: Path) -> Path:
    return exported(Pair(), folder / "pair.eipack")


def environment(name: str, *requirements: str) -> Path:
    """Return the environment of that name, made first where it is not there yet."""
    place = ENVIRONMENTS / name
    if not (place / ".installed").exists():
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True, symlinks=True)
        pip = [place / "bin" / "pip", "install", "--quiet", *requirements]
        made = subprocess.run(pip, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"{name} cannot be installed: {made.stderr.strip().splitlines()[-1]}")
        (place / ".installed").touch()
    return place


def free_port() -> int:
    """Return a port that is free now: neither server can be given port 0."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@contextmanager
def running(command: list[str], folder: Path, port: int, cwd: Path, **more: str) -> Iterator[None]:
    """Run a server until the block ends; its output goes to a file in `folder`."""
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            command, cwd=cwd, stdout=output, stderr=output, env=os.environ | more
        )
    try:
        until = time.monotonic() + START_S
        while not ready(port):
            said = (folder / "output").read_text()[-2000:]
            assert process.poll() is None, f"it ended: {said}"
            assert time.monotonic() < until, f"it does not start: {said}"
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5):
            return True
    except OSError:
        return False


@contextmanager
def triton(folder: Path, *, torch_backend: bool, control: str = "explicit") -> Iterator[str]:
    """Run Triton with a model of its own; give its address."""
    packages = environment("triton", "nvidia-pytriton", "numpy==1.26.*") / "lib" / PYTHON
    packages /= "site-packages"
    server = packages / "pytriton" / "tritonserver"
    stub = server / "python_backend_stubs" / PYTHON.removeprefix("python")
    if not stub.is_dir():
        pytest.skip(f"the wheel nvidia-pytriton has no stub for {PYTHON}")
    backend = folder / "backends" / "python"
    shutil.copytree(server / "backends" / "python", backend)
    shutil.copy2(stub / "triton_python_backend_stub", backend)
    if torch_backend:  # in place of the one in C++, which the wheel does not carry
        backend = folder / "backends" / "pytorch"
        backend.mkdir()
        here = str(Path(torch.__file__).parents[1])
        (backend / "model.py").write_text(TORCH_BACKEND.format(packages=here))
    model = folder / "models" / "scale"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(TRITON_CONFIG)
    (model / "1" / "model.py").write_text(TRITON_MODEL)
    port = free_port()
    options = {
        "model-repository": folder / "models",
        "backend-directory": folder / "backends",
        "model-control-mode": control,
        "http-address": "127.0.0.1",
        "http-port": port,
        "allow-grpc": "false",
        "allow-metrics": "false",
    }
    if control == "explicit":
        options["load-model"] = "scale"
    libraries = [packages / "nvidia_pytriton.libs", Path(str(sysconfig.get_config_var("LIBDIR")))]
    command = [
        str(server / "bin" / "tritonserver"),
        *(f"--{key}={one}" for key, one in options.items()),
    ]
    more = {"LD_LIBRARY_PATH": ":".join(map(str, libraries)), "OMP_NUM_THREADS": "1"}
    # the stub needs NumPy 1.26, and looks for it in the working folder first
    with running(command, folder, port, packages, **more):
        yield f"triton+http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def with_torch(folder: Path) -> Iterator[str]:
    place = folder / "with_torch"
    place.mkdir()
    with triton(place, torch_backend=True) as address:
        yield address


@pytest.fixture(scope="module")
def mlserver(folder: Path) -> Iterator[str]:
    place = folder / "mlserver"
    place.mkdir()
    (place / "scaling.py").write_text(MLSERVER_MODEL)
    port = free_port()
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 0,
    }
    (place / "settings.json").write_text(json.dumps(settings))
    for name, factor, declared in (
        ("scale", 2, True),
        ("undeclared", 2, False),
        ("other", 3, True),
    ):
        (place / name).mkdir()
        (place / name / "model-settings.json").write_text(
            json.dumps(
                {
                    "name": name,
                    "implementation": "scaling.Scale",
                    "parameters": {"extra": {"factor": factor}},
                    **(DECLARED if declared else {}),
                }
            )
        )
    program = environment("mlserver", "mlserver") / "bin" / "mlserver"
    with running([str(program), "start", "."], place, port, place):
        yield f"oip+http://127.0.0.1:{port}"


DECLARED = {
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [-1, 4]},
        {"name": "bias", "datatype": "FP32", "shape": [4]},
    ],
    "outputs": [
        {"name": "scaled", "datatype": "FP32", "shape": [-1, 4]},
        {"name": "total", "datatype": "FP32", "shape": [-1, 1]},
    ],
}


@contextmanager
def attaching(address: str, *words: str) -> Iterator[None]:
    """Attach a server as `eia:0` by the command, as a user does, until the block ends."""
    eia_group.main(["attach", address, *words], standalone_mode=False)
    one = attached.visible()[0]
    try:
        yield
    finally:
        attached.detach(one.id)


@pytest.fixture(autouse=True)
def nothing_attached(shared_home: Path) -> None:
    for one in attached.attached():
        attached.detach(one.id)


def name_of(path: Path) -> str:
    """Return the name that a package's TorchScript has on a Triton."""
    with eipack.open(path) as package:
        return Upload(package, package.program("torchscript")).name


def is_there(address: str, name: str) -> bool:
    """Ask whether a Triton has a model; its index lists none that it was sent."""
    return is_ready(Control(Endpoint.parse(address)), name)


def same(there: Any, here: Any) -> None:
    torch.testing.assert_close(there, here)


def test_triton_is_sent_a_package_once_and_forgets_it_with_the_last_session(
    with_torch: str, pair: Path
) -> None:
    name = name_of(pair)
    with attaching(with_torch):
        with eipack.load(pair, "cpu") as here, eipack.load(pair, "eia:0") as first:
            with eipack.load(pair, "eia:0") as second:
                for rows in (1, 5, 8, 5):
                    x = torch.randn(rows, 4)
                    same(first(x, BIAS), here(x, BIAS))
                    same(second(x, BIAS), here(x, BIAS))
            assert is_there(with_torch, name)
            details = first.info.details
        assert wait_for(lambda: not is_there(with_torch, name))
    assert details["server"].startswith("triton 2.")
    assert (details["model"], details["program"]) == (name, "torchscript")


def wait_for(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + 10
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def test_triton_is_sent_a_package_again_when_it_has_lost_it(with_torch: str, pair: Path) -> None:
    name = name_of(pair)
    control = Control(Endpoint.parse(with_torch))
    with attaching(with_torch), eipack.load(pair, "eia:0") as session:
        expected = session(X, BIAS)
        control.json("POST", f"v2/repository/models/{name}/unload", {})
        assert wait_for(lambda: not is_there(with_torch, name))
        same(session(X, BIAS), expected)


def test_a_model_that_triton_has_is_used_by_its_names(with_torch: str, scale: Path) -> None:
    with attaching(with_torch, "--model", "scale"), eipack.load(scale, "eia:0") as session:
        x = torch.randn(3, 4)
        there = session(x, BIAS)
        same(there["scaled"], 2 * x + BIAS)
        same(there["total"], x.sum(-1, keepdim=True))
        assert session.info.details["model"] == "scale"


def test_a_model_of_triton_with_another_signature_is_refused(with_torch: str, pair: Path) -> None:
    with attaching(with_torch, "--model", "scale"):
        with pytest.raises(
            SignatureMismatch, match="'total' of model 'scale': its size on axis 1 is 1"
        ):
            eipack.load(pair, "eia:0")


def test_a_model_that_triton_lacks_cannot_be_attached(with_torch: str) -> None:
    with pytest.raises(AcceleratorUnavailable, match="no model 'missing' ready"):
        eia_group.main(["attach", with_torch, "--model", "missing"], standalone_mode=False)


def test_a_deadline_holds_at_triton(with_torch: str, pair: Path) -> None:
    with attaching(with_torch), eipack.load(pair, "eia:0", deadline_ms=5000) as session:
        same(session(X, BIAS), session(X, BIAS))


def test_a_triton_without_the_backend_says_so(folder: Path, pair: Path) -> None:
    place = folder / "without_torch"
    place.mkdir()
    with triton(place, torch_backend=False) as address, attaching(address):
        with pytest.raises(UnsupportedModel, match="has no pytorch backend"):
            eipack.load(pair, "eia:0")


def test_a_triton_that_loads_nothing_on_request_says_so(
    folder: Path, pair: Path, scale: Path
) -> None:
    place = folder / "fixed"
    place.mkdir()
    with triton(place, torch_backend=False, control="none") as address:
        with attaching(address), pytest.raises(AcceleratorDenied, match="explicit"):
            eipack.load(pair, "eia:0")
        with attaching(address, "--model", "scale"), eipack.load(scale, "eia:0") as session:
            same(session(X, BIAS)["scaled"], 2 * X + BIAS)


@pytest.mark.parametrize("model", ["scale", "undeclared"])
def test_a_model_of_mlserver_is_used_with_tensors_as_json(
    mlserver: str, scale: Path, model: str
) -> None:
    with attaching(mlserver, "--model", model), eipack.load(scale, "eia:0") as session:
        for rows in (1, 3):
            x = torch.randn(rows, 4)
            there = session(x, BIAS)
            same(there["scaled"], 2 * x + BIAS)
            same(there["total"], x.sum(-1, keepdim=True))
        assert session.info.details["server"].startswith("mlserver")


def test_a_model_of_mlserver_that_answers_otherwise_is_refused(mlserver: str, scale: Path) -> None:
    with attaching(mlserver, "--model", "other"):
        with pytest.raises(ParityFailed, match=r"'other' .* answers the package's samples"):
            eipack.load(scale, "eia:0")


def test_the_address_and_the_model_make_the_id(mlserver: str) -> None:
    with attaching(mlserver, "--model", "scale"):
        assert attached.visible()[0].id == made_id(Endpoint.parse(mlserver), "scale")
