"""A package in a real KServe model server, as its how-to page says."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("kserve", reason="KServe is not installed here; run make test-serving-kserve")

import grpc
import httpx
import torch
import tritonclient.http
from eipack_serving.kserve import PackageModel
from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.errors import InvalidInput, ModelNotReady

import eipack
from eipack.errors import UnsupportedModel

from .pages import Ask, Page, running, storm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Page:
    return Page.of("serving-kserve.md", tmp_path_factory.mktemp("kserve"), "8080", "8081").prepare()


@pytest.fixture(scope="module")
def url(page: Page) -> Iterator[str]:
    address = f"http://127.0.0.1:{page.ports['8080']}"
    with running(page.command, page.folder, f"{address}/v2/models/classifier/ready"):
        yield address


def test_the_calls_of_the_page_agree_with_the_eager_model(page: Page, url: str) -> None:
    names = page.call()
    expected = names["model"](names["x"])
    torch.testing.assert_close(names["y"], expected)
    torch.testing.assert_close(names["rows"], expected)


def test_a_thousand_requests_of_eight_clients_agree_with_the_eager_model(
    page: Page, url: str
) -> None:
    @contextmanager
    def connect() -> Iterator[Ask]:
        client = tritonclient.http.InferenceServerClient(url.removeprefix("http://"))

        def ask(x: torch.Tensor) -> torch.Tensor:
            given = tritonclient.http.InferInput("input", list(x.shape), "FP32")
            given.set_data_from_numpy(x.numpy())
            wanted = tritonclient.http.InferRequestedOutput("output", binary_data=True)
            made = client.infer("classifier", [given], outputs=[wanted])
            return torch.from_numpy(made.as_numpy("output").copy())

        try:
            yield ask
        finally:
            client.close()

    assert storm(connect, page.names["model"]) == 1000


def test_the_signature_is_the_metadata(url: str) -> None:
    said = httpx.get(f"{url}/v2/models/classifier").json()
    assert said["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 16]}]
    assert said["outputs"] == [{"name": "output", "datatype": "FP32", "shape": [-1, 4]}]


def v2(**changes: object) -> dict[str, object]:
    tensor = {"name": "input", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}
    return {"inputs": [tensor | changes]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("v2/models/classifier/infer", v2(name="other")),
        ("v2/models/classifier/infer", v2(shape=[1, 8], data=[0.5] * 8)),
        ("v2/models/classifier/infer", v2(shape=[2, 16])),
        ("v2/models/classifier/infer", v2(datatype="INT64", data=[1] * 16)),
        ("v2/models/classifier/infer", v2(datatype="BF16")),
        ("v2/models/classifier/infer", {"inputs": v2()["inputs"] * 2}),
        ("v1/models/classifier:predict", {"instances": [[0.5] * 8]}),
        ("v1/models/classifier:predict", {"instances": [{"other": [0.5] * 16}]}),
        ("v1/models/classifier:predict", {"rows": []}),
    ],
    ids=[
        "another name",
        "another shape",
        "too little data",
        "another datatype",
        "a datatype that KServe lacks",
        "an input twice",
        "rows of another length",
        "rows by another name",
        "no rows",
    ],
)
def test_a_bad_request_is_answered_with_400_and_a_reason(url: str, path: str, body: object) -> None:
    answer = httpx.post(f"{url}/{path}", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_grpc_answers_as_http_does(page: Page, url: str) -> None:
    x = torch.rand(4, 16)

    async def ask(x: torch.Tensor) -> torch.Tensor:
        given = InferInput("input", list(x.shape), "FP32")
        given.set_data_from_numpy(x.numpy())
        async with InferenceGRPCClient(f"127.0.0.1:{page.ports['8081']}") as client:
            answer = await client.infer(InferRequest("classifier", [given]))
        return torch.from_numpy(answer.outputs[0].as_numpy().copy())

    torch.testing.assert_close(asyncio.run(ask(x)), page.names["model"](x))
    with pytest.raises(grpc.RpcError) as caught:
        asyncio.run(ask(torch.rand(4, 8)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_model_that_is_stopped_is_not_ready(page: Page) -> None:
    model = PackageModel("classifier", page.folder / "classifier.eipack")
    request = {"instances": [[0.5] * 16]}
    assert model.load()
    assert len(asyncio.run(model.predict(request))["predictions"]) == 1
    with pytest.raises(InvalidInput):
        asyncio.run(model.predict({"instances": [1]}))
    model.stop()
    assert not asyncio.run(model.healthy())
    with pytest.raises(ModelNotReady, match="closed"):
        asyncio.run(model.predict(request))


def test_a_further_process_of_the_server_opens_the_package_for_itself(page: Page) -> None:
    model = PackageModel("classifier", page.folder / "classifier.eipack")
    model.load()
    there = pickle.loads(pickle.dumps(model))  # as KServe gives it to its workers
    assert asyncio.run(there.healthy())
    request = {"instances": [[0.5] * 16]}
    assert asyncio.run(there.predict(request)) == asyncio.run(model.predict(request))
    there.stop()
    assert not asyncio.run(there.healthy())
    model.stop()


def test_a_package_of_bfloat16_is_refused(tmp_path: Path) -> None:
    linear = torch.nn.Linear(4, 2).to(torch.bfloat16).eval()
    path = eipack.export(linear, (torch.rand(1, 4, dtype=torch.bfloat16),)).save(
        tmp_path / "half.eipack"
    )
    with pytest.raises(UnsupportedModel, match="KServe has no datatype BF16"):
        PackageModel("half", path).load()
