"""Servers of others as accelerators, against a small one that does what Triton and others do."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from attrs import define, evolve, field
from click.testing import CliRunner
from eipack_eia.attached import attached
from eipack_eia.cli_attached import attach
from eipack_eia.client.triton import Upload
from torch import nn

import eipack
from eipack.errors import (
    AcceleratorDenied,
    AcceleratorFull,
    AcceleratorOverloaded,
    AcceleratorUnavailable,
    DeadlineExceeded,
    DeviceNotFound,
    EipackError,
    ExecutionFailed,
    ParityFailed,
    ProgramNotFound,
    ProtocolError,
    SignatureMismatch,
    UnsupportedModel,
)

X, BIAS = torch.linspace(-1, 1, 8).reshape(2, 4), torch.tensor([1.0, 2.0, 3.0, 4.0])
BATCH = {0: torch.export.Dim("batch", min=1, max=8)}
DTYPES = {"FP32": np.float32, "INT64": np.int64}
DATATYPES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}

Arrays = dict[str, np.ndarray]
Declared = tuple[str, str, list[int]]


@define
class Model:
    """A model on the server; `run` takes and gives arrays by name."""

    run: Callable[[Arrays], Arrays]
    inputs: list[Declared] | None = None
    outputs: list[Declared] | None = None


@define(eq=False)
class Rules:
    """What the server can do, and how it misbehaves."""

    name: str = "triton"
    binary: bool = True
    explicit: bool = True
    backends: tuple[str, ...] = ("pytorch", "onnxruntime")
    largest: int = 1 << 20
    delay_s: float = 0.0
    hang_up: int = 0
    refuse: tuple[int, str] | None = None
    token: str | None = None
    twist: Callable[[Arrays], Arrays] | None = None


class Server(ThreadingHTTPServer):
    """A server of the protocol, with Triton's repository and binary tensors."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rules = Rules()
        self.models: dict[str, Model] = {}
        self.requests: list[tuple[str, Any]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def count(self, ending: str) -> int:
        """Count the requests whose path ends so."""
        return len(self.documents(ending))

    def documents(self, ending: str) -> list[Any]:
        return [document for path, document in self.requests if path.endswith(ending)]


class _Refused(Exception):
    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status, self.said = status, said


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(lambda: self._post(data))

    def _answer(self, make: Callable[[], tuple[bytes, bytes]]) -> None:
        status = 200
        try:
            self._check_token()
            head, tail = make()
        except _Refused as error:
            status, head, tail = error.status, json.dumps({"error": error.said}).encode(), b""
        except ConnectionAbortedError:
            self.close_connection = True
            return
        self.send_response(status)
        if tail:
            self.send_header("Inference-Header-Content-Length", str(len(head)))
        self.send_header("Content-Length", str(len(head) + len(tail)))
        self.end_headers()
        self.wfile.write(head + tail)

    def _check_token(self) -> None:
        token = self.server.rules.token
        if token is not None and self.headers["Authorization"] != f"Bearer {token}":
            raise _Refused(401, "who are you")

    def _get(self) -> tuple[bytes, bytes]:
        rules = self.server.rules
        parts = self.path.strip("/").split("/")
        if parts == ["v2"]:
            extensions = ["statistics", "model_repository"]
            extensions += ["binary_tensor_data"] if rules.binary else []
            return _json({"name": rules.name, "version": "9.1", "extensions": extensions})
        if parts == ["v2", "health", "live"]:
            return b"", b""
        model = self._model(parts[2])
        if parts[3:] == ["ready"]:
            return b"", b""
        sides = {"inputs": model.inputs, "outputs": model.outputs}
        told = {
            side: [dict(zip(("name", "datatype", "shape"), one, strict=True)) for one in tensors]
            for side, tensors in sides.items()
            if tensors is not None
        }
        return _json({"name": unquote(parts[2]), "versions": ["1"], "platform": "any", **told})

    def _model(self, name: str) -> Model:
        try:
            return self.server.models[unquote(name)]
        except KeyError:
            raise _Refused(400, f"Request for unknown model: '{name}' is not found") from None

    def _post(self, data: bytes) -> tuple[bytes, bytes]:
        length = int(self.headers.get("Inference-Header-Content-Length", len(data)))
        document = json.loads(data[:length])
        self.server.requests.append((self.path, document))
        parts = self.path.strip("/").split("/")
        if parts[1] == "repository":
            return self._repository(unquote(parts[3]), parts[4], document, len(data))
        return self._infer(self._model(parts[2]), document, data[length:])

    def _repository(self, name: str, verb: str, document: Any, size: int) -> tuple[bytes, bytes]:
        rules = self.server.rules
        if not rules.explicit:
            raise _Refused(503, "explicit model load / unload is not allowed if polling is enabled")
        if size > rules.largest:
            raise _Refused(
                400, f"request JSON exceeds the maximum allowed value of {rules.largest}"
            )
        if verb == "unload":
            self.server.models.pop(name, None)
            return b"", b""
        config = json.loads(document["parameters"]["config"])
        if config["backend"] not in rules.backends:
            raise _Refused(400, f"unable to find backend library for '{config['backend']}'")
        file = document["parameters"][f"file:1/{config['default_model_filename']}"]
        self.server.models[name] = _loaded(config, base64.b64decode(file))
        return b"", b""

    def _infer(self, model: Model, document: Any, tail: bytes) -> tuple[bytes, bytes]:
        rules = self.server.rules
        if rules.hang_up:
            rules.hang_up -= 1
            raise ConnectionAbortedError
        time.sleep(rules.delay_s)
        if rules.refuse is not None:
            raise _Refused(*rules.refuse)
        made = model.run(_arrays(document["inputs"], tail))
        made = rules.twist(made) if rules.twist else made
        outputs, raw = [], b""
        for name, array in made.items():
            one = {"name": name, "datatype": DATATYPES[array.dtype], "shape": list(array.shape)}
            if rules.binary:
                one["parameters"] = {"binary_data_size": array.nbytes}
                raw += np.ascontiguousarray(array).tobytes()
            else:
                one["data"] = array.ravel().tolist()
            outputs.append(one)
        head, _ = _json({"model_name": "any", "model_version": "1", "outputs": outputs})
        return head, raw

    def log_message(self, *_: Any) -> None:
        pass


def _json(document: Any) -> tuple[bytes, bytes]:
    return json.dumps(document).encode(), b""


def _arrays(inputs: list[Any], tail: bytes) -> Arrays:
    found = {}
    for one in inputs:
        dtype = DTYPES[one["datatype"]]
        if "data" in one:
            array = np.array(one["data"], dtype)
        else:
            size = one["parameters"]["binary_data_size"]
            array, tail = np.frombuffer(tail[:size], dtype), tail[size:]
        found[one["name"]] = array.reshape(one["shape"])
    assert not tail
    return found


def _loaded(config: Any, data: bytes) -> Model:
    """Load what was sent, as the backend does that the configuration names."""
    sides = [
        [(one["name"], one["data_type"].removeprefix("TYPE_"), one["dims"]) for one in config[side]]
        for side in ("input", "output")
    ]
    names = [one[0] for one in sides[1]]
    if config["backend"] == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        return Model(lambda given: dict(zip(names, session.run(names, given), strict=True)), *sides)
    module = torch.jit.load(io.BytesIO(data))

    def run(given: Arrays) -> Arrays:
        tensors = [torch.from_numpy(given[name].copy()) for name, *_ in sides[0]]
        with torch.inference_mode():
            made = module(*tensors)
        made = [made] if isinstance(made, torch.Tensor) else made
        return {name: one.numpy() for name, one in zip(names, made, strict=True)}

    return Model(run, *sides)


class Scale(nn.Module):
    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"scaled": 2 * x + bias, "total": x.sum(-1, keepdim=True)}


class Scalar(nn.Module):
    def forward(self, x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
        return x * by


class Nested(nn.Module):
    def forward(self, pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return pair[0] + pair[1]


def run_scale(given: Arrays) -> Arrays:
    x, bias = given["x"], given["bias"]
    return {"total": x.sum(-1, keepdims=True), "scaled": 2 * x + bias}


INPUTS: list[Declared] = [("bias", "FP32", [4]), ("x", "FP32", [-1, 4])]
OUTPUTS: list[Declared] = [("total", "FP32", [-1, 1]), ("scaled", "FP32", [-1, 4])]
SCALE = Model(run_scale, INPUTS, OUTPUTS)


def exported(model: nn.Module, path: Path, **more: Any) -> Path:
    options: dict[str, Any] = {"dynamic_shapes": {"x": BATCH, "bias": None}, "target": "eia"}
    return eipack.export(model.eval(), (X, BIAS), **(options | more)).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("foreign")


@pytest.fixture(scope="module")
def scale(folder: Path) -> Path:
    return exported(Scale(), folder / "scale.eipack")


@pytest.fixture(scope="module")
def with_onnx(folder: Path) -> Path:
    pytest.importorskip("onnxruntime")
    return exported(
        Scale(), folder / "onnx.eipack", target=None, programs=["torchscript", "exported", "onnx"]
    )


@contextmanager
def running() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as one:
        yield one


Use = Callable[..., None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Attach servers: `use(server, scheme=..., model=...)`."""
    monkeypatch.delenv("EI_VISIBLE_DEVICES", raising=False)

    def attach_all(*servers: Server, scheme: str = "triton", **options: str) -> None:
        more = "".join(f",{name.replace('_', '-')}={one}" for name, one in options.items())
        entries = [f"{scheme}+http://{one.address}{more}" for one in servers]
        monkeypatch.setenv("EIPACK_ACCELERATORS", ";".join(entries))

    return attach_all


def check(session: Any, rows: int = 3) -> None:
    x = torch.randn(rows, 4)
    there = session(x, BIAS)
    torch.testing.assert_close(there["scaled"], 2 * x + BIAS)
    torch.testing.assert_close(there["total"], x.sum(-1, keepdim=True))


def name_of(path: Path, program: str = "torchscript") -> str:
    with eipack.open(path) as package:
        return Upload(package, package.program(program)).name


class TestSending:
    def test_a_package_is_sent_and_answers_as_here(
        self, server: Server, use: Use, scale: Path
    ) -> None:
        use(server)
        with eipack.load(scale, "eia:0") as session:
            for rows in (1, 8, 3, 8):
                check(session, rows)
            details = session.info.details
        assert details["server"] == "triton 9.1"
        assert (details["model"], details["program"]) == (name_of(scale), "torchscript")

    def test_it_is_sent_once_and_unloaded_with_the_last_session(
        self, server: Server, use: Use, scale: Path
    ) -> None:
        use(server)
        with eipack.load(scale, "eia:0"):
            with eipack.load(scale, "eia:0"):
                pass
            assert server.count("/load") == 1
            assert list(server.models) == [name_of(scale)]
        assert not server.models

    def test_a_package_that_was_there_before_stays(
        self, server: Server, use: Use, scale: Path
    ) -> None:
        use(server)
        server.models[name_of(scale)] = SCALE
        with eipack.load(scale, "eia:0") as session:
            check(session)
        assert not server.count("load")
        assert list(server.models) == [name_of(scale)]

    def test_it_is_sent_again_when_the_server_has_lost_it(
        self, server: Server, use: Use, scale: Path
    ) -> None:
        use(server)
        with eipack.load(scale, "eia:0") as session:
            server.models.clear()
            check(session)
            assert server.count("/load") == 2
        assert not server.models

    def test_the_configuration_names_tensors_by_position_and_lets_sizes_vary(
        self, server: Server, use: Use, scale: Path
    ) -> None:
        use(server)
        with eipack.load(scale, "eia:0"):
            (document,) = server.documents("/load")
        config = json.loads(document["parameters"]["config"])
        assert config["max_batch_size"] == 0
        assert config["input"] == [
            {"name": "INPUT__0", "data_type": "TYPE_FP32", "dims": [-1, 4]},
            {"name": "INPUT__1", "data_type": "TYPE_FP32", "dims": [4]},
        ]
        assert [one["name"] for one in config["output"]] == ["OUTPUT__0", "OUTPUT__1"]

    def test_onnx_is_sent_where_torchscript_does_not_run(
        self, server: Server, use: Use, with_onnx: Path
    ) -> None:
        use(server)
        server.rules.backends = ("onnxruntime",)
        with eipack.load(with_onnx, "eia:0") as session:
            check(session)
            assert session.info.details["program"] == "onnx"
        assert not server.models

    def test_onnx_is_sent_for_an_exported_program(
        self, server: Server, use: Use, with_onnx: Path
    ) -> None:
        use(server)
        with eipack.load(with_onnx, "eia:0", program="exported") as session:
            check(session)
            assert session.info.details["program"] == "onnx"

    def test_an_exported_program_alone_cannot_be_sent(
        self, server: Server, use: Use, folder: Path
    ) -> None:
        use(server)
        path = exported(Scale(), folder / "exported.eipack", target=None, programs=["exported"])
        with pytest.raises(ProgramNotFound, match=r"no exported program, and .* no onnx one"):
            eipack.load(path, "eia:0")

    def test_a_server_without_the_backend_is_named(
        self, server: Server, use: Use, scale: Path
    ) -> None:
        use(server)
        server.rules.backends = ()
        with pytest.raises(UnsupportedModel, match="has no pytorch backend"):
            eipack.load(scale, "eia:0")

    def test_a_server_that_loads_nothing_on_request_is_an_error(
        self, server: Server, use: Use, scale: Path
    ) -> None:
        use(server)
        server.rules.explicit = False
        with pytest.raises(AcceleratorDenied, match="--model-control-mode=explicit"):
            eipack.load(scale, "eia:0")

    def test_a_package_that_is_too_large_is_an_error(
        self, server: Server, use: Use, scale: Path
    ) -> None:
        use(server)
        server.rules.largest = 100
        with pytest.raises(AcceleratorFull, match="--http-max-input-size"):
            eipack.load(scale, "eia:0")

    def test_a_server_that_takes_no_packages_is_an_error(
        self, server: Server, use: Use, scale: Path
    ) -> None:
        use(server, scheme="oip")
        with pytest.raises(ProgramNotFound, match=r"takes no packages; .*--model"):
            eipack.load(scale, "eia:0")

    def test_a_package_that_is_answered_wrongly_is_refused_and_unloaded(
        self, server: Server, use: Use, scale: Path
    ) -> None:
        use(server)
        server.rules.twist = lambda made: {name: one + 1 for name, one in made.items()}
        with pytest.raises(ParityFailed, match="in another way"):
            eipack.load(scale, "eia:0")
        assert not server.models

    def test_a_tensor_without_axes_cannot_be_sent(
        self, server: Server, use: Use, folder: Path
    ) -> None:
        use(server)
        package = eipack.export(Scalar().eval(), (X, torch.tensor(2.0)), programs=["torchscript"])
        path = package.save(folder / "scalar.eipack")
        with pytest.raises(UnsupportedModel, match="'by' has no axis"):
            eipack.load(path, "eia:0")

    def test_a_nested_call_cannot_be_sent(self, server: Server, use: Use, folder: Path) -> None:
        use(server)
        package = eipack.export(torch.jit.script(Nested()), ((X, X + 1),), method="script")
        path = package.save(folder / "nested.eipack")
        with pytest.raises(UnsupportedModel, match="nested inputs"):
            eipack.load(path, "eia:0")


class TestBinding:
    def test_a_model_that_is_there_is_used_by_its_names(
        self, server: Server, use: Use, scale: Path
    ) -> None:
        server.models["a scale"] = SCALE
        use(server, scheme="oip", model="a scale")
        with eipack.load(scale, "eia:0") as session:
            check(session)
            check(session)
            assert session.info.details["model"] == "a scale"
            assert session.info.details["program"] is None
        assert "a scale" in server.models

    def test_other_names_are_taken_in_their_order(
        self, server: Server, use: Use, scale: Path
    ) -> None:
        def run(given: Arrays) -> Arrays:
            made = run_scale({"x": given["a"], "bias": given["b"]})
            return {"second": made["total"], "first": made["scaled"]}

        inputs: list[Declared] = [("a", "FP32", [-1, 4]), ("b", "FP32", [4])]
        outputs: list[Declared] = [("first", "FP32", [-1, 4]), ("second", "FP32", [-1, 1])]
        server.models["scale"] = Model(run, inputs, outputs)
        use(server, model="scale")
        with eipack.load(scale, "eia:0") as session:
            check(session)

    def test_outputs_that_nobody_asked_for_are_left_out(
        self, server: Server, use: Use, scale: Path
    ) -> None:
        more: list[Declared] = [("more", "INT64", [-1])]
        run = lambda given: {"more": np.zeros(3, np.int64), **run_scale(given)}  # noqa: E731
        server.models["scale"] = Model(run, INPUTS, more + OUTPUTS)
        use(server, model="scale")
        with eipack.load(scale, "eia:0") as session:
            check(session)
            check(session)

    @pytest.mark.parametrize("binary", [True, False])
    def test_a_model_that_declares_nothing_is_proved_by_its_answers(
        self, server: Server, use: Use, scale: Path, binary: bool
    ) -> None:
        server.models["scale"] = Model(run_scale)
        server.rules.binary = binary
        use(server, scheme="oip", model="scale")
        with eipack.load(scale, "eia:0") as session:
            check(session)

    @pytest.mark.parametrize(
        ("inputs", "outputs", "said"),
        [
            (INPUTS[:1], OUTPUTS, r"inputs bias: FP32\[4\]; the package has x: float32"),
            ([*INPUTS, ("more", "FP32", [1])], OUTPUTS, "has the inputs bias.*more"),
            ([("x", "FP32", [-1, 4]), ("b", "FP32", [4])], OUTPUTS, "the inputs x.*b: FP32"),
            ([("x", "INT64", [-1, 4]), INPUTS[0]], OUTPUTS, "datatype is INT64, expected FP32"),
            ([("x", "FP32", [-1, 4, 1]), INPUTS[0]], OUTPUTS, "has 3 axes .*, expected 2"),
            ([("x", "FP32", [-1, 5]), INPUTS[0]], OUTPUTS, "size on axis 1 is 5, expected 4"),
            ([("x", "FP32", [2, 4]), INPUTS[0]], OUTPUTS, "size on axis 0 is 2, expected batch"),
            (INPUTS, [OUTPUTS[0]], "has the outputs total"),
            (INPUTS, [OUTPUTS[0], ("scaled", "FP32", [-1, 5])], "output 'scaled'.*axis 1 is 5"),
        ],
    )
    def test_another_signature_is_refused(
        self,
        server: Server,
        use: Use,
        scale: Path,
        inputs: list[Declared],
        outputs: list[Declared],
        said: str,
    ) -> None:
        server.models["scale"] = Model(run_scale, inputs, outputs)
        use(server, model="scale")
        with pytest.raises(SignatureMismatch, match=said):
            eipack.load(scale, "eia:0")
        assert not server.count("/infer")

    def test_a_model_that_answers_in_another_way_is_refused(
        self, server: Server, use: Use, scale: Path
    ) -> None:
        run = lambda given: {**run_scale(given), "scaled": 3 * given["x"]}  # noqa: E731
        server.models["scale"] = evolve(SCALE, run=run)
        use(server, model="scale")
        with pytest.raises(ParityFailed, match=r"'scale' .* in output 'scaled'") as caught:
            eipack.load(scale, "eia:0")
        assert caught.value.output == "scaled"

    def test_a_model_that_is_not_there_is_no_device(
        self, server: Server, use: Use, scale: Path
    ) -> None:
        use(server, model="missing")
        with pytest.raises(DeviceNotFound, match="unknown model"):
            eipack.load(scale, "eia:0")

    def test_a_model_that_goes_away_is_an_error_and_comes_back(
        self, server: Server, use: Use, scale: Path
    ) -> None:
        server.models["scale"] = SCALE
        use(server, model="scale")
        with eipack.load(scale, "eia:0") as session:
            del server.models["scale"]
            with pytest.raises(ProgramNotFound, match="no model 'scale' ready; load it there"):
                session(X, BIAS)
            server.models["scale"] = SCALE
            check(session)


class TestTensorsAsJson:
    @pytest.fixture(autouse=True)
    def json_only(self, server: Server, use: Use) -> None:
        server.rules = Rules(name="mlserver", binary=False)
        server.models["scale"] = SCALE
        use(server, scheme="oip", model="scale")

    def test_they_are_sent_where_the_server_takes_nothing_else(
        self, server: Server, scale: Path
    ) -> None:
        with eipack.load(scale, "eia:0") as session:
            for rows in (1, 4):
                check(session, rows)
        assert all("data" in one for one in server.documents("/infer")[-1]["inputs"])

    def test_a_nan_is_refused_before_it_is_sent(self, server: Server, scale: Path) -> None:
        with eipack.load(scale, "eia:0") as session:
            sent = server.count("/infer")
            with pytest.raises(ProtocolError, match="no number for"):
                session(X * float("nan"), BIAS)
            assert server.count("/infer") == sent
            check(session)


def _without(name: str) -> Callable[[Arrays], Arrays]:
    return lambda made: {key: one for key, one in made.items() if key != name}


class TestFaults:
    @pytest.fixture(autouse=True)
    def bound(self, server: Server, use: Use) -> None:
        server.models["scale"] = SCALE
        use(server, model="scale")

    @pytest.mark.parametrize(
        ("twist", "said"),
        [
            (_without("total"), "output 'total' 0 times"),
            (lambda made: {**made, "total": made["total"].astype(np.int64)}, "as INT64"),
            (lambda made: {**made, "scaled": made["scaled"][:, :2]}, r"FP32\[2, 2\]; the package"),
        ],
        ids=["missing", "dtype", "shape"],
    )
    def test_an_answer_that_does_not_fit_the_signature_is_an_error(
        self, server: Server, scale: Path, twist: Callable[[Arrays], Arrays], said: str
    ) -> None:
        with eipack.load(scale, "eia:0") as session:
            server.rules.twist = twist
            with pytest.raises(ProtocolError, match=said):
                session(X, BIAS)
            server.rules.twist = None
            check(session)

    @pytest.mark.parametrize(
        ("status", "said", "kind"),
        [
            (403, "no", AcceleratorDenied),
            (503, "busy", AcceleratorOverloaded),
            (503, "Request timeout expired", DeadlineExceeded),
            (500, "it broke", ExecutionFailed),
            (400, "bad shape", ProtocolError),
        ],
    )
    def test_what_the_server_refuses_is_a_typed_error(
        self, server: Server, scale: Path, status: int, said: str, kind: type[EipackError]
    ) -> None:
        with eipack.load(scale, "eia:0") as session:
            server.rules.refuse = (status, said)
            with pytest.raises(kind, match=said):
                session(X, BIAS)
            server.rules.refuse = None
            check(session)

    def test_a_lost_connection_is_an_error_and_the_next_call_connects_again(
        self, server: Server, scale: Path
    ) -> None:
        with eipack.load(scale, "eia:0") as session:
            server.rules.hang_up = 1
            with pytest.raises(AcceleratorUnavailable, match="was lost"):
                session(X, BIAS)
            check(session)

    def test_retries_send_a_lost_call_again(self, server: Server, scale: Path) -> None:
        with eipack.load(scale, "eia:0", retries=1) as session:
            server.rules.hang_up = 1
            check(session)

    def test_a_deadline_ends_a_call_and_travels_to_triton(
        self, server: Server, scale: Path
    ) -> None:
        with eipack.load(scale, "eia:0", deadline_ms=200) as session:
            server.rules.delay_s = 0.4
            with pytest.raises(DeadlineExceeded, match=r"within 0\.2 s"):
                session(X, BIAS)
        assert server.documents("/infer")[-1]["parameters"] == {"timeout": 200_000}

    def test_a_deadline_is_not_told_to_servers_that_have_no_such_parameter(
        self, server: Server, use: Use, scale: Path
    ) -> None:
        use(server, scheme="oip", model="scale")
        with eipack.load(scale, "eia:0", deadline_ms=5000) as session:
            check(session)
        assert "parameters" not in server.documents("/infer")[-1]

    def test_the_next_server_takes_over(self, server: Server, use: Use, scale: Path) -> None:
        with running() as first:
            first.models["scale"] = SCALE
            use(first, server, model="scale")
            with eipack.load(scale, "eia:0", failover=True, retries=1) as session:
                check(session)
                first.rules.hang_up = 9
                check(session)
                assert session.info.details["endpoint"] == f"triton+http://{server.address}"

    def test_a_token_is_shown(self, server: Server, use: Use, scale: Path, tmp_path: Path) -> None:
        server.rules.token = "secret"
        file = tmp_path / "token"
        file.touch(mode=0o600)
        file.write_text("secret\n")
        use(server, model="scale", token_file=str(file))
        with eipack.load(scale, "eia:0") as session:
            check(session)


@define
class Attach:
    """The command, and what it wrote."""

    runner: CliRunner = field(factory=CliRunner)

    def __call__(self, *words: str) -> tuple[str, str]:
        result = self.runner.invoke(attach, words, catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout, result.stderr


@pytest.mark.usefixtures("fresh_home")
class TestAttaching:
    def test_it_tells_what_the_server_can_do(self, server: Server) -> None:
        _, told = Attach()(f"triton+http://{server.address}")
        assert "triton 9.1: binary tensors, takes packages" in told
        assert attached()[0].type == "triton"

    def test_it_tells_that_a_model_is_needed(self, server: Server) -> None:
        server.rules = Rules(name="mlserver", binary=False)
        _, told = Attach()(f"oip+http://{server.address}")
        assert "mlserver 9.1: tensors as JSON, runs the models it has" in told
        assert "attach it again with --model" in told

    def test_a_model_that_is_there_is_recorded(self, server: Server) -> None:
        server.models["scale"] = SCALE
        Attach()(f"oip+http://{server.address}", "--model", "scale")
        assert attached()[0].model == "scale"

    def test_a_model_that_is_not_there_is_refused(self, server: Server) -> None:
        with pytest.raises(AcceleratorUnavailable, match="no model 'missing' ready"):
            Attach()(f"oip+http://{server.address}", "--model", "missing")
        assert not attached()
