"""A package in a real BentoML service, as its how-to page says."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch

pytest.importorskip(
    "bentoml", reason="BentoML is not installed here; run make test-serving-bentoml"
)

import bentoml

from .pages import Ask, Page, running, storm

pytestmark = [
    pytest.mark.slow,
    # BentoML uses what its own libraries have deprecated, and its clients leave a folder each.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Page:
    return Page.of("serving-bentoml.md", tmp_path_factory.mktemp("bentoml"), "3000").prepare()


@pytest.fixture(scope="module")
def url(page: Page) -> Iterator[str]:
    address = f"http://127.0.0.1:{page.ports['3000']}"
    home = {"BENTOML_HOME": str(page.folder / "home"), "BENTOML_DO_NOT_TRACK": "true"}
    with running(page.command, page.folder, f"{address}/readyz", **home):
        yield address


@pytest.fixture(autouse=True)
def _folders_of_clients(page: Page) -> Iterator[None]:
    yield
    page.names.pop("client", None)
    gc.collect()


def test_the_call_of_the_page_agrees_with_the_eager_model(page: Page, url: str) -> None:
    names = page.call()
    torch.testing.assert_close(names["y"], names["model"](names["x"]))


def test_a_thousand_requests_of_eight_clients_agree_with_the_eager_model(
    page: Page, url: str
) -> None:
    @contextmanager
    def connect() -> Iterator[Ask]:
        with bentoml.SyncHTTPClient(url) as client:
            yield lambda x: torch.from_numpy(client.predict(rows=x.numpy()).copy())

    assert storm(connect, page.names["model"]) == 1000


@pytest.mark.parametrize(
    "body",
    [{"rows": [[0.5] * 8]}, {"rows": 1}, {"other": [[0.5] * 16]}],
    ids=["rows of another length", "no rows", "another name"],
)
def test_a_bad_request_is_answered_with_400(url: str, body: object) -> None:
    assert httpx.post(f"{url}/predict", json=body, timeout=60).status_code == 400
