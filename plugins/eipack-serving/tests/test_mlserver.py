"""A package in a real MLServer, as its how-to page says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch
import tritonclient.http

pytest.importorskip(
    "mlserver", reason="MLServer is not installed here; run make test-serving-mlserver"
)

from eipack_eia import attached
from eipack_eia.cli import eia as lend

import eipack

from .pages import Ask, Page, running, storm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Page:
    folder = tmp_path_factory.mktemp("mlserver")
    return Page.of("serving-mlserver.md", folder, "8080", "8081", "8082").prepare()


@pytest.fixture(scope="module")
def url(page: Page) -> Iterator[str]:
    address = f"http://127.0.0.1:{page.ports['8080']}"
    with running(page.command, page.folder, f"{address}/v2/models/classifier/ready"):
        yield address


def test_the_call_of_the_page_agrees_with_the_eager_model(page: Page, url: str) -> None:
    names = page.call()
    torch.testing.assert_close(names["y"], names["model"](names["x"]))


def test_a_thousand_requests_of_eight_clients_agree_with_the_eager_model(
    page: Page, url: str
) -> None:
    @contextmanager
    def connect() -> Iterator[Ask]:
        client = tritonclient.http.InferenceServerClient(url.removeprefix("http://"))

        def ask(x: torch.Tensor) -> torch.Tensor:
            given = tritonclient.http.InferInput("input", list(x.shape), "FP32")
            given.set_data_from_numpy(x.numpy(), binary_data=False)
            made = client.infer("classifier", [given])
            return torch.from_numpy(made.as_numpy("output").copy())

        try:
            yield ask
        finally:
            client.close()

    assert storm(connect, page.names["model"]) == 1000


def test_the_signature_is_the_metadata(url: str) -> None:
    said = httpx.get(f"{url}/v2/models/classifier").json()
    shape = {"datatype": "FP32", "shape": [-1, 16]}
    assert said["inputs"] == [{"name": "input", **shape}]
    assert said["outputs"][0]["name"] == "output"


def v2(**changes: object) -> dict[str, object]:
    tensor = {"name": "input", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}
    return {"inputs": [tensor | changes]}


@pytest.mark.parametrize(
    "body",
    [
        v2(name="other"),
        v2(shape=[1, 8], data=[0.5] * 8),
        v2(shape=[2, 16]),
        v2(datatype="INT64", data=[1] * 16),
    ],
    ids=["another name", "another shape", "too little data", "another datatype"],
)
def test_a_bad_request_is_answered_with_400_and_a_reason(url: str, body: object) -> None:
    answer = httpx.post(f"{url}/v2/models/classifier/infer", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_it_can_be_the_accelerator_of_another_host(page: Page, url: str) -> None:
    address = url.replace("http://", "oip+http://")
    lend.main(["attach", address, "--model", "classifier"], standalone_mode=False)
    one = attached.visible()[-1]
    try:
        with eipack.load(page.folder / "classifier.eipack", f"eia:{one.ordinal}") as session:
            x = torch.rand(3, 16)
            torch.testing.assert_close(session(x), page.names["model"](x))
    finally:
        attached.detach(one.id)
