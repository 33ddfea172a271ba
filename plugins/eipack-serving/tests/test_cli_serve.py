"""`eipack serve`: the accelerators' server with models of its own, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import tritonclient.http as oip_client
from click.testing import CliRunner, Result
from eipack_eia.server import supervisor
from eipack_eia.server.supervisor import Slice

import eipack
from eipack.cli.root import root

from .conftest import Packed, started
from .test_asgi import as_json, ask_many, triton_inputs

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command in this process, without the process that it would start."""
    monkeypatch.setattr(Slice, "start", lambda self: None)
    monkeypatch.setattr(supervisor, "supervise", lambda slices, say: None)

    def run(*words: object) -> Result:
        port = () if "--port" in words else ("--port", "0")
        return CliRunner().invoke(root, ["serve", *map(str, words), *port])

    return run


def test_clients_are_served_until_it_is_told_to_end(packed: Packed) -> None:
    with started("serve", str(packed.path), "--port", "0") as (process, said):
        place = said["endpoint"]
        assert said["models"] == {"scorer": str(packed.path)}
        ask_many(place, packed, 1000, 8)
        with oip_client.InferenceServerClient(place) as client:
            assert client.is_server_ready()
            assert client.is_model_ready("scorer")
            metadata = client.get_server_metadata()
            assert (metadata["name"], "accelerator" in metadata) == ("eipack-serve", False)
            described = client.get_model_metadata("scorer")
            assert described["inputs"][1] == {
                "name": "shift",
                "datatype": "FP32",
                "shape": [-1, 4],
            }
            wrong = {**packed.inputs(), "x": np.zeros((2, 9), "float32")}
            answer = httpx.post(f"http://{place}/v2/models/scorer/infer", json=as_json(wrong))
            assert answer.status_code == 400
            assert "9" in answer.json()["error"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_several_files_have_their_names_and_a_target(
    packed: Packed, accelerator: str, tmp_path: Path
) -> None:
    other = eipack.export(torch.nn.Linear(2, 2).eval(), (torch.ones(1, 2),), name="other")
    path = other.save(tmp_path / "other.eipack")
    words = ("--name", "first", "--name", "second", "--target", accelerator, "--workers", "2")
    with started("serve", str(packed.path), str(path), *words, "--port", "0") as (_, said):
        assert said["target"] == accelerator
        with oip_client.InferenceServerClient(said["endpoint"]) as client:
            inputs = packed.inputs()
            result = client.infer("first", triton_inputs(inputs))
            packed.check(inputs, {name: result.as_numpy(name) for name in ("scores", "best")})
            assert client.is_model_ready("second")


def test_what_is_for_accelerators_is_off(packed: Packed) -> None:
    with started("serve", str(packed.path), "--port", "0") as (_, said):
        address = f"http://{said['endpoint']}"
        for method, path in (
            ("POST", "v2/eipack/packages"),
            ("POST", "v2/eipack/sessions"),
            ("PUT", "v2/eipack/blobs/0"),
            ("POST", "v2/repository/models/scorer/unload"),
        ):
            answer = httpx.request(method, f"{address}/{path}", content=b"{}")
            assert answer.status_code == 403
            assert "models are fixed" in answer.json()["error"]
        assert httpx.get(f"{address}/v2/models/scorer/ready").status_code == 200
        [listed] = httpx.post(f"{address}/v2/repository/index").json()
        assert (listed["name"], listed["state"]) == ("scorer", "READY")
        assert "eia_inferences_total" in httpx.get(f"{address}/metrics").text
        rebound = httpx.get(f"{address}/v2", headers={"host": "evil.example"})
        assert rebound.status_code == 403


def test_calls_of_several_clients_share_batches(packed: Packed) -> None:
    words = ("--max-batch", "8", "--max-delay-us", "2000", "--port", "0")
    with started("serve", str(packed.path), *words) as (_, said):
        with oip_client.InferenceServerClient(said["endpoint"]) as client:
            until = time.monotonic() + 30
            while client.get_model_metadata("scorer")["parameters"]["batching"] != "on":
                assert time.monotonic() < until
                time.sleep(0.05)
            ask_many(said["endpoint"], packed, 200, 4, most_rows=1)
            stats = httpx.get(f"http://{said['endpoint']}/v2/models/scorer/stats").json()
        [found] = stats["model_stats"]
        assert found["execution_count"] < found["inference_count"]


def test_a_token_is_asked_for_where_there_is_a_file_of_them(packed: Packed, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("a-long-and-secret-token infer\n")
    tokens.chmod(0o600)
    words = ("--token-file", str(tokens), "--port", "0")
    with started("serve", str(packed.path), *words) as (_, said):
        address = f"http://{said['endpoint']}/v2/models/scorer"
        assert said["token_file"] == str(tokens)
        assert httpx.get(address).status_code == 403
        known = {"authorization": "Bearer a-long-and-secret-token"}
        assert httpx.get(address, headers=known).status_code == 200


def test_it_says_to_a_person_where_each_model_is(packed: Packed, invoke: Any) -> None:
    result = invoke(packed.path, "--name", "mine")
    assert result.exit_code == 0
    assert result.stdout.startswith("mine on cpu, at http://127.0.0.1:")
    assert result.stdout.strip().endswith("/v2/models/mine")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--name", "a", "--name", "b"), "give --name once for each FILE: 2 for 1"),
        (("--name", "a/b"), "has other than"),
        (("--target", "cpu+auto"), "name what eipack tune recommends"),
        (("--max-delay-us", "5"), "give --max-batch too"),
        (("--port", "70000"), "--port"),
    ],
)
def test_wrong_use_is_told_in_a_line(
    packed: Packed, invoke: Any, words: tuple[str, ...], said: str
) -> None:
    result = invoke(packed.path, *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not result.stdout


def test_two_models_of_one_name_are_refused(packed: Packed, invoke: Any) -> None:
    result = invoke(packed.path, packed.path)
    assert result.exit_code == 2
    assert "two models are called 'scorer'" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--host", "0.0.0.0"), "can be reached from other hosts"),
        (("--key", "key.pem"), "--key needs TLS"),
        (("--token-file", "not/there"), "there is no file not/there"),
        (("--host", "192.0.2.1", "--insecure", "--no-token"), "choose another --host or --port"),
    ],
)
def test_what_leaves_it_open_or_cannot_be_is_refused(
    packed: Packed, invoke: Any, words: tuple[str, ...], said: str
) -> None:
    result = invoke(packed.path, *words)
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_largest_request_without_a_byte_is_wrong_use(packed: Packed, invoke: Any) -> None:
    result = invoke(packed.path, "--body-gb", "-1")
    assert result.exit_code == 2
    assert "--body-gb" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_package_that_is_missing_or_not_trusted_is_refused_before_anything_starts(
    packed: Packed, invoke: Any, tmp_path: Path, fresh_home: Path
) -> None:
    assert "missing.eipack" in invoke(tmp_path / "missing.eipack").stderr
    result = invoke(packed.path)  # another home trusts another key
    assert result.exit_code == 1
    assert "not trusted" in result.stderr


def test_the_start_is_told_in_one_line_of_json(packed: Packed, invoke: Any) -> None:
    document = json.loads(invoke(packed.path, "--json").stdout)
    assert set(document) == {"endpoint", "target", "models", "token_file"}


def test_a_target_that_is_not_there_is_told_in_a_line(packed: Packed) -> None:
    words = ["serve", str(packed.path), "--target", "cuda:7", "--port", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "eipack", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 1
    assert "cannot start eipack serve: cuda:7" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout
