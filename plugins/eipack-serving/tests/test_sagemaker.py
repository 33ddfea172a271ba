"""The contract of SageMaker's containers, over a real socket."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import safetensors.numpy
import torch
import tritonclient.http as oip_client
from eipack_serving import PackageService
from eipack_serving.sagemaker import NPY, SAFETENSORS, TRITON, container

import eipack

from .conftest import Packed, listening
from .test_asgi import arrays, as_json, triton_inputs


@pytest.fixture(scope="module")
def invocations(packed: Packed) -> Iterator[str]:
    with listening(container(PackageService(packed.path))) as address:
        yield f"{address}/invocations"


def test_ping_says_whether_it_is_ready(packed: Packed) -> None:
    service = PackageService(packed.path)
    with listening(container(service)) as address:
        assert httpx.get(f"{address}/ping").status_code == 200
        service.drain()
        assert httpx.get(f"{address}/ping").status_code == 503


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"])
def test_json_is_answered_in_json(invocations: str, packed: Packed, kind: str) -> None:
    inputs = packed.inputs()
    content = json.dumps(as_json(inputs))
    answer = httpx.post(invocations, content=content, headers={"content-type": kind})
    assert answer.headers["content-type"] == "application/json"
    packed.check(inputs, arrays(answer.json()))


def test_tensors_by_name_come_as_safetensors(invocations: str, packed: Packed) -> None:
    inputs = packed.inputs(5)
    answer = httpx.post(
        invocations,
        content=safetensors.numpy.save(inputs),
        headers={"content-type": SAFETENSORS},
    )
    assert answer.headers["content-type"] == SAFETENSORS
    packed.check(inputs, safetensors.numpy.load(answer.content))


def test_what_a_client_of_triton_makes_is_taken(invocations: str, packed: Packed) -> None:
    inputs = packed.inputs(5)
    client = oip_client.InferenceServerClient
    body, size = client.generate_request_body(triton_inputs(inputs))
    headers = {"content-type": f"{TRITON};json-header-size={size}"}
    answer = httpx.post(invocations, content=body, headers=headers)
    kind, _, length = answer.headers["content-type"].partition(";json-header-size=")
    assert kind == TRITON
    result = client.parse_response_body(answer.content, header_length=int(length))
    packed.check(inputs, {name: result.as_numpy(name) for name in ("scores", "best")})


def test_one_array_comes_as_numpy_saves_it(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2).eval()
    path = eipack.export(model, (torch.ones(4, 3),)).save(tmp_path / "linear.eipack")
    x, body = np.random.default_rng(0).normal(size=(4, 3)).astype("float32"), io.BytesIO()
    np.save(body, x)
    headers = {"content-type": NPY}
    with listening(container(PackageService(path))) as address:
        answer = httpx.post(f"{address}/invocations", content=body.getvalue(), headers=headers)
        cut = httpx.post(f"{address}/invocations", content=body.getvalue()[:-4], headers=headers)
        archive = httpx.post(f"{address}/invocations", content=b"PK\3\4..", headers=headers)
        pickled = io.BytesIO()
        np.save(pickled, np.array([{}], object), allow_pickle=True)
        code = httpx.post(f"{address}/invocations", content=pickled.getvalue(), headers=headers)
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(np.load(io.BytesIO(answer.content)), expected, rtol=1e-5)
    assert (cut.status_code, archive.status_code, code.status_code) == (400, 400, 400)
    assert "no array" in code.json()["error"]


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("text/csv", b"1,2", "'text/csv' is not taken; send application/json"),
        (NPY, b"", "holds one array"),
        (SAFETENSORS, b"12345678", "no safetensors"),
        (SAFETENSORS, safetensors.numpy.save({"y": np.zeros(1)}), "y given"),
        (TRITON, b"", "no inference request"),
        ("application/json", b"[]", "no inference request"),
    ],
)
def test_what_cannot_be_read_is_a_bad_request(
    invocations: str, kind: str, content: bytes, said: str
) -> None:
    answer = httpx.post(invocations, content=content, headers={"content-type": kind})
    assert answer.status_code == 400
    assert said in answer.json()["error"]
