"""What an accelerator answers over HTTP, asked by a client that knows nothing of eipack."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import define, field
from eipack_eia.client.uploading import upload
from prometheus_client.parser import text_string_to_metric_families
from torch import nn

import eipack
from eipack.package import Package

from .conftest import Served, serving  # type: ignore[import-not-found]

DATA = [[0.5, -1.0, 2.0], [3.0, 4.0, -5.0]]


class Several(nn.Module):
    """Two inputs, of which one has no axis, and three outputs, of which one is empty."""

    def forward(self, x: torch.Tensor, n: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"doubled": x * 2, "count": n + 1, "none": x[:0]}


@define
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def failed(self, status: int, kind: str | None = None) -> str:
        """Check status and class of an error, and return what it says."""
        assert (self.status, self.headers.get("eipack-error")) == (status, kind), self.body
        assert "\n" not in self.json["error"]
        return str(self.json["error"])


@define
class Client:
    """One connection of http.client that is kept."""

    served: Any
    token: str | None = None
    connection: HTTPConnection = field(init=False)

    def __attrs_post_init__(self) -> None:
        endpoint = self.served.endpoint
        self.connection = HTTPConnection(endpoint.host, endpoint.port, timeout=10)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        given = dict(headers or {})
        if self.token is not None:
            given.setdefault("Authorization", f"Bearer {self.token}")
        self.connection.request(method, path, data, given)
        answer = self.connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read())

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def infer(self, model: str, document: Any, binary: bytes = b"", padding: int = 0) -> Answer:
        data = json.dumps(document).encode() + b" " * padding
        headers = {"Inference-Header-Content-Length": str(len(data))} if binary else {}
        return self.ask("POST", f"/v2/models/{model}/infer", data + binary, headers)


def in_json(name: str, datatype: str, shape: list[int], data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def in_binary(name: str, datatype: str, shape: list[int], size: int) -> dict[str, Any]:
    parameters = {"binary_data_size": size}
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": parameters}


X, N = in_json("x", "FP32", [2, 3], DATA), in_json("n", "INT64", [], [7])
INPUTS = {"inputs": [X, N]}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Path:
    batch = torch.export.Dim("batch", min=1, max=8)
    package = eipack.export(
        Several().eval(),
        inputs=(torch.tensor(DATA), torch.tensor(7)),
        dynamic_shapes={"x": {0: batch}, "n": None},
        programs=["torchscript"],
        name="several",
    )
    return package.save(tmp_path_factory.mktemp("packages") / "several.eipack")


@pytest.fixture
def client(accelerator: Served) -> Iterator[Client]:
    one = Client(accelerator, accelerator.control.credentials.token)
    yield one
    one.connection.close()


@pytest.fixture
def stranger(accelerator: Served) -> Iterator[Client]:
    one = Client(accelerator)
    yield one
    one.connection.close()


@pytest.fixture
def known(accelerator: Served, path: Path) -> str:
    """Name a model that is on the accelerator, loaded or not."""
    with Package.open(path) as package:
        return f"several-{upload(accelerator.control, package)[:8]}"


@pytest.fixture
def model(client: Client, known: str) -> Iterator[str]:
    """Name a model that is loaded."""
    assert client.ask("POST", f"/v2/repository/models/{known}/load").status == 200
    yield known
    client.ask("POST", f"/v2/repository/models/{known}/unload")


class TestHealthAndMetadata:
    def test_anybody_may_ask_whether_it_lives(self, stranger: Client) -> None:
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert stranger.get(path).status == 200

    def test_it_describes_itself(self, client: Client, accelerator: Served) -> None:
        document = client.get("/v2").json
        assert document["name"] == "eipack-eia"
        assert {"binary_tensor_data", "model_repository", "statistics"} < {*document["extensions"]}
        own = document["accelerator"]
        assert (own["id"], own["on"], own["status"]) == (accelerator.said["id"], "cpu", "healthy")
        assert 0 < own["memory_free_bytes"] <= own["memory_bytes"] == 10**9

    def test_a_models_sizes_that_vary_are_minus_one(self, client: Client, model: str) -> None:
        for path in (f"/v2/models/{model}", f"/v2/models/{model}/versions/1"):
            assert client.get(path).json == {
                "name": model,
                "versions": ["1"],
                "platform": "eipack_torchscript",
                "inputs": [
                    {"name": "x", "datatype": "FP32", "shape": [-1, 3]},
                    {"name": "n", "datatype": "INT64", "shape": []},
                ],
                "outputs": [
                    {"name": "doubled", "datatype": "FP32", "shape": [-1, 3]},
                    {"name": "count", "datatype": "INT64", "shape": []},
                    {"name": "none", "datatype": "FP32", "shape": [0, 3]},
                ],
            }

    def test_a_model_is_ready_once_it_is_loaded(self, client: Client, known: str) -> None:
        ready = f"/v2/models/{known}/ready"
        assert "is not loaded; load it first" in client.get(ready).failed(404, "ProgramNotFound")
        client.ask("POST", f"/v2/repository/models/{known}/load", {})
        assert client.get(ready).status == 200
        client.ask("POST", f"/v2/repository/models/{known}/unload", {})
        assert client.get(ready).status == 404

    def test_there_is_one_version(self, client: Client, model: str) -> None:
        said = client.get(f"/v2/models/{model}/versions/2").failed(404, "ProgramNotFound")
        assert said == f"model '{model}' has version 1 alone"


class TestRepository:
    def entries(self, client: Client, name: str, body: Any = None) -> list[Any]:
        listed = client.ask("POST", "/v2/repository/index", body).json
        return [one for one in listed if one["name"] == name]

    def test_a_loaded_model_is_ready(self, client: Client, model: str) -> None:
        entry = {"name": model, "version": "1", "state": "READY", "reason": ""}
        assert self.entries(client, model) == [entry]
        assert self.entries(client, model, {"ready": True}) == [entry]

    def test_a_model_that_is_not_loaded_is_listed_unless_ready_ones_are_asked_for(
        self, client: Client, known: str
    ) -> None:
        [entry] = self.entries(client, known, {"ready": False})
        assert entry["state"] == "UNAVAILABLE"
        assert self.entries(client, known, {"ready": True}) == []

    def test_an_unknown_model_is_not_loaded(self, client: Client) -> None:
        answer = client.ask("POST", "/v2/repository/models/other/load")
        assert answer.failed(404, "ProgramNotFound") == ("there is no model 'other' here")

    def test_files_in_load_are_refused(self, client: Client, known: str) -> None:
        body = {"parameters": {"config": "{}", "file:1/model.pt": "AAAA"}}
        answer = client.ask("POST", f"/v2/repository/models/{known}/load", body)
        assert "upload a package with eipack" in answer.failed(400, "ProtocolError")

    def test_a_model_with_an_open_session_stays_loaded(
        self, client: Client, model: str, path: Path, accelerator: Served
    ) -> None:
        with Package.open(path) as package:
            body = {"package": upload(accelerator.control, package), "program": None}
        session = client.ask("POST", "/v2/eipack/sessions", body).json
        assert (session["model"], session["target"]) == (model, "cpu")
        unloaded = client.ask("POST", f"/v2/repository/models/{model}/unload")
        assert "is in use and stays loaded" in unloaded.failed(503, "AcceleratorOverloaded")
        closing = f"/v2/eipack/sessions/{session['session']}"
        assert client.ask("DELETE", closing).status == 200
        assert client.ask("DELETE", closing).failed(404, "ProgramNotFound")

    @pytest.mark.parametrize("body", [b"[]", b"{", b"\xff", b'"x"'])
    def test_what_is_no_json_object_is_refused(self, client: Client, body: bytes) -> None:
        client.ask("POST", "/v2/repository/index", body).failed(400, "ProtocolError")


class TestInference:
    def test_a_request_may_be_json_alone(self, client: Client, model: str) -> None:
        answer = client.infer(model, INPUTS | {"id": "7"})
        assert answer.headers["content-type"] == "application/json"
        assert answer.json == {
            "id": "7",
            "model_name": model,
            "model_version": "1",
            "outputs": [
                in_json("doubled", "FP32", [2, 3], [1.0, -2.0, 4.0, 6.0, 8.0, -10.0]),
                in_json("count", "INT64", [], [8]),
                in_json("none", "FP32", [0, 3], []),
            ],
        }

    def test_every_output_may_come_in_binary(self, client: Client, model: str) -> None:
        answer = client.infer(model, INPUTS | {"parameters": {"binary_data_output": True}})
        size = int(answer.headers["inference-header-content-length"])
        document, data = json.loads(answer.body[:size]), answer.body[size:]
        assert [one["parameters"] for one in document["outputs"]] == [
            {"binary_data_size": 24},
            {"binary_data_size": 8},
            {"binary_data_size": 0},
        ]
        assert struct.unpack("<6fq", data) == (1.0, -2.0, 4.0, 6.0, 8.0, -10.0, 8)

    def test_each_output_comes_as_it_was_asked_for(self, client: Client, model: str) -> None:
        wanted = [
            {"name": "count", "parameters": {"binary_data": True}},
            {"name": "doubled", "parameters": {"binary_data": False}},
            {"name": "none", "parameters": {"binary_data": True}},
        ]
        answer = client.infer(model, INPUTS | {"outputs": wanted})
        size = int(answer.headers["inference-header-content-length"])
        document = json.loads(answer.body[:size])
        assert [one["name"] for one in document["outputs"]] == ["count", "doubled", "none"]
        assert document["outputs"][1]["data"] == [1.0, -2.0, 4.0, 6.0, 8.0, -10.0]
        assert answer.body[size:] == struct.pack("<q", 8)

    def test_an_output_that_is_not_asked_for_does_not_come(
        self, client: Client, model: str
    ) -> None:
        answer = client.infer(model, INPUTS | {"outputs": [{"name": "count"}]})
        assert answer.json["outputs"] == [in_json("count", "INT64", [], [8])]

    @pytest.mark.parametrize("padding", range(4), ids="{} spaces".format)
    def test_inputs_may_be_binary_and_json_in_one_request(
        self, client: Client, model: str, padding: int
    ) -> None:
        document = {"inputs": [in_binary("x", "FP32", [1, 3], 12), N]}
        answer = client.infer(model, document, struct.pack("<3f", 1, 2, 3), padding)
        assert answer.json["outputs"][0]["data"] == [2.0, 4.0, 6.0]

    def test_a_connection_answers_requests_of_changing_kinds(
        self, client: Client, model: str
    ) -> None:
        n = struct.pack("<q", 7)
        for turn in range(8):
            for rows in (1, 1, 3, 2):
                x = [float(turn + number) for number in range(3 * rows)]
                announced = [
                    in_binary("n", "INT64", [], 8),
                    in_binary("x", "FP32", [rows, 3], 12 * rows),
                ]
                data = n + struct.pack(f"<{len(x)}f", *x)
                answer = client.infer(model, {"inputs": announced}, data, padding=turn)
                assert answer.json["outputs"][0]["data"] == [2 * one for one in x]
            assert client.get("/v2/health/live").status == 200
            assert client.infer(model, {"inputs": [X]}).status == 400

    def test_the_answer_says_where_its_time_went(self, client: Client, model: str) -> None:
        timing = client.infer(model, INPUTS).headers["server-timing"]
        parts = dict(part.strip().split(";dur=") for part in timing.split(","))
        assert [*parts] == ["queue", "compute", "transfer"]
        assert 0 < float(parts["compute"]) < 10_000

    def test_a_deadline_that_has_passed_is_told_and_nothing_is_run(
        self, client: Client, model: str
    ) -> None:
        before = inferences(client, model)
        answer = client.infer(model, INPUTS | {"parameters": {"timeout": 1}})
        assert "it was not run" in answer.failed(504, "DeadlineExceeded")
        answer = client.infer(model, INPUTS | {"parameters": {"timeout": 10_000_000}})
        assert answer.status == 200
        assert inferences(client, model) == before + 1

    @pytest.mark.parametrize("padding", range(8), ids="{} spaces".format)
    def test_a_model_that_was_loaded_anew_answers_the_same_connection(
        self, client: Client, accelerator: Served, model: str, padding: int
    ) -> None:
        inputs = [in_binary("n", "INT64", [], 8), in_binary("x", "FP32", [1, 3], 12)]
        data = struct.pack("<q3f", 7, 1, 2, 3)
        for _ in range(2):
            for _ in range(2):
                answer = client.infer(model, {"inputs": inputs}, data, padding)
                assert answer.json["outputs"][0]["data"] == [2.0, 4.0, 6.0]
            for verb in ("unload", "load"):
                accelerator.control.json("POST", f"v2/repository/models/{model}/{verb}")

    @pytest.mark.parametrize(
        ("document", "said"),
        [
            ({"inputs": [X]}, "inputs x were given; {model} takes n, x"),
            ({"inputs": [X, N, in_json("z", "FP32", [1], [1])]}, "inputs n, x, z were given"),
            ({"inputs": [in_json("x", "FP64", [2, 3], DATA), N]}, "input 'x': "),
            ({"inputs": [in_json("x", "FP32", [3, 2], [1] * 6), N]}, "input 'x': "),
            ({"inputs": [in_json("x", "FP32", [6], [1] * 6), N]}, "input 'x': "),
            ({"inputs": [in_json("x", "FP32", [9, 3], [1] * 27), N]}, "input 'x': "),
            ({"inputs": [in_json("x", "FP32", [0, 3], []), N]}, "input 'x': "),
            (INPUTS | {"outputs": [{"name": "z"}]}, "there is no output 'z', but doubled, count"),
        ],
        ids=["missing", "unknown", "dtype", "size", "rank", "large", "empty", "output"],
    )
    def test_what_does_not_fit_the_signature_is_refused(
        self, client: Client, model: str, document: Any, said: str
    ) -> None:
        answer = client.infer(model, document)
        assert said.format(model=model) in answer.failed(400, "SignatureMismatch")

    @pytest.mark.parametrize(
        ("document", "said"),
        [
            ({"inputs": [X, X, N]}, "input 'x' is there twice"),
            ({"inputs": [in_json("x", "FP32", [2, 3], [1, 2]), N]}, "its data do not fit FP32"),
            ({"inputs": [in_json("x", "BYTES", [1], ["a"]), N]}, "datatype 'BYTES' is not"),
            ({"inputs": [in_json("x", "FP32", [-1, 3], [1]), N]}, "is no shape"),
            ({"inputs": [in_json("n", "INT64", [], [1.5]), X]}, "its data do not fit INT64"),
            ({"inputs": [in_binary("x", "FP32", [2, 3], 24), N]}, "24 bytes of tensors are"),
            ({"inputs": 3}, "the request is no inference request"),
            (
                INPUTS | {"outputs": [{"name": "count", "parameters": {"classification": 2}}]},
                "the classification extension is not offered here",
            ),
        ],
        ids=["twice", "few", "BYTES", "shape", "fraction", "absent", "inputs", "classification"],
    )
    def test_what_breaks_the_protocol_is_refused(
        self, client: Client, model: str, document: Any, said: str
    ) -> None:
        assert said in client.infer(model, document).failed(400, "ProtocolError")

    @pytest.mark.parametrize("length", ["-1", "x", "99999", "9" * 5000, "1.0", ""])
    def test_a_length_of_json_that_cannot_be_is_refused(
        self, client: Client, model: str, length: str
    ) -> None:
        headers = {"Inference-Header-Content-Length": length}
        answer = client.ask("POST", f"/v2/models/{model}/infer", INPUTS, headers)
        answer.failed(400, "ProtocolError")

    def test_infinity_in_json_is_refused_and_comes_in_binary(
        self, client: Client, model: str
    ) -> None:
        inputs = {"inputs": [in_json("x", "FP32", [1, 3], [3e38, 0, 0]), N]}
        said = client.infer(model, inputs).failed(400, "ProtocolError")
        assert said == "'doubled' holds what JSON has no number for; ask for it in binary"
        answer = client.infer(model, inputs | {"parameters": {"binary_data_output": True}})
        assert struct.pack("<f", float("inf")) in answer.body

    def test_an_unknown_model_is_told(self, client: Client) -> None:
        said = client.infer("other", INPUTS).failed(404, "ProgramNotFound")
        assert said == "there is no model 'other' here"


class TestFigures:
    def test_statistics_count_what_went_well_and_what_failed(
        self, client: Client, model: str
    ) -> None:
        before = statistics(client, model)
        for document in (INPUTS, INPUTS, {"inputs": [in_json("x", "FP32", [6], [1] * 6), N]}):
            client.infer(model, document)
        after = statistics(client, model)
        assert after["inference_count"] - before["inference_count"] == 2
        counts = {name: entry["count"] for name, entry in after["inference_stats"].items()}
        failed = before["inference_stats"]["fail"]["count"] + 1
        assert counts["success"] == counts["compute_infer"] == after["inference_count"]
        assert counts["fail"] == failed
        assert after["last_inference"] > 1_700_000_000_000

    def test_all_models_statistics_come_together(self, client: Client, model: str) -> None:
        found = client.get("/v2/models/stats").json["model_stats"]
        assert model in {one["name"] for one in found}

    def test_prometheus_reads_the_metrics(self, client: Client, model: str) -> None:
        client.infer(model, INPUTS)
        answer = client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = list(text_string_to_metric_families(answer.body.decode()))
        assert {family.name for family in families} == {
            "eia_memory_bytes",
            "eia_memory_used_bytes",
            "eia_waiting_requests",
            "eia_inferences",
            "eia_failures",
            "eia_seconds",
        }
        samples = [sample for family in families for sample in family.samples]
        own = {
            (sample.name, sample.labels.get("phase")): sample.value
            for sample in samples
            if sample.labels.get("model") == model
        }
        assert own["eia_inferences_total", None] == inferences(client, model)
        assert own["eia_seconds_total", "compute"] > 0
        assert {sample.value for sample in samples if sample.name == "eia_memory_bytes"} == {1e9}


def statistics(client: Client, model: str) -> Any:
    [found] = client.get(f"/v2/models/{model}/stats").json["model_stats"]
    return found


def inferences(client: Client, model: str) -> int:
    return int(statistics(client, model)["inference_count"])


class TestAccess:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v2"),
            ("GET", "/metrics"),
            ("GET", "/v2/models/any"),
            ("POST", "/v2/models/any/infer"),
            ("POST", "/v2/repository/index"),
            ("POST", "/v2/repository/models/any/load"),
            ("POST", "/v2/eipack/packages"),
            ("PUT", "/v2/eipack/blobs/any?offset=0"),
        ],
    )
    def test_who_shows_no_token_learns_nothing(
        self, stranger: Client, method: str, path: str
    ) -> None:
        said = stranger.ask(method, path, {}).failed(403, "AcceleratorDenied")
        assert said.startswith("the token is missing; ")

    def test_a_wrong_token_is_refused_and_not_repeated(self, stranger: Client) -> None:
        for scheme in ("Bearer", "Basic"):
            answer = stranger.ask("GET", "/v2", headers={"Authorization": f"{scheme} hunter2"})
            said = answer.failed(403, "AcceleratorDenied")
            assert said.startswith("the token is not known here; ")
            assert "hunter2" not in said

    @pytest.mark.parametrize("host", ["example.com", "example.com:80", "127.0.0.1.example", ""])
    def test_a_foreign_host_header_is_refused(self, client: Client, host: str) -> None:
        answer = client.ask("GET", "/v2/health/live", headers={"Host": host})
        assert "names another host" in answer.failed(403, "AcceleratorDenied")

    def test_a_token_for_inference_alone_uploads_nothing(self, tmp_path: Path, path: Path) -> None:
        tokens = tmp_path / "tokens"
        tokens.write_text("for-infer infer\nfor-both\n")
        tokens.chmod(0o600)
        with serving(tmp_path / "store", "--token-file", str(tokens)) as served:
            limited, full = Client(served, "for-infer"), Client(served, "for-both")
            assert limited.get("/v2").status == 200
            for method, path_ in (
                ("POST", "/v2/eipack/packages"),
                ("PUT", "/v2/eipack/blobs/any?offset=0"),
                ("POST", "/v2/eipack/packages/any/commit"),
                ("POST", "/v2/repository/models/any/load"),
                ("POST", "/v2/repository/models/any/unload"),
            ):
                said = limited.ask(method, path_, {}).failed(403, "AcceleratorDenied")
                assert said.startswith("the token does not allow to upload; ")
            assert full.ask("POST", "/v2/repository/models/any/load").status == 404
            for one in (limited, full):
                one.connection.close()


class TestRouting:
    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("POST", "/v2/health/live", "GET"),
            ("GET", "/v2/repository/index", "POST"),
            ("DELETE", "/v2", "GET"),
            ("GET", "/v2/models/any/infer", "POST"),
        ],
    )
    def test_a_wrong_method_is_told_the_right_one(
        self, client: Client, method: str, path: str, allowed: str
    ) -> None:
        answer = client.ask(method, path)
        assert allowed in answer.failed(405)
        assert answer.headers["allow"] == allowed

    @pytest.mark.parametrize("path", ["/", "/v3", "/v2/models/a/b", "/v2/..%2f..%2fetc/passwd"])
    def test_an_unknown_address_is_told(self, client: Client, path: str) -> None:
        assert client.get(path).failed(404).startswith("there is nothing at /")

    def test_a_connection_is_kept_over_errors_and_answers(self, client: Client, known: str) -> None:
        client.get("/v2")
        kept = client.connection.sock
        for path in ("/v3", "/v2/models/other", "/v2/health/live", f"/v2/models/{known}/stats"):
            assert "connection" not in client.get(path).headers
        assert client.connection.sock is kept

    def test_a_connection_ends_when_the_client_says_so(self, client: Client) -> None:
        answer = client.ask("GET", "/v2/health/live", headers={"Connection": "close"})
        assert answer.headers["connection"] == "close"

    def test_what_is_no_http_is_answered_and_hung_up_on(self, accelerator: Served) -> None:
        address = accelerator.endpoint.host, accelerator.endpoint.port
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(b"\x16\x03\x01 no http\r\n\r\n")
            received = b""
            while more := connection.recv(1 << 16):
                received += more
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"eipack-error: ProtocolError" in head
        assert json.loads(body)["error"].startswith("the request is no HTTP/1.1")
