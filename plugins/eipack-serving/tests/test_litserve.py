"""A package in a real LitServe, as its how-to page says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch

pytest.importorskip(
    "litserve", reason="LitServe is not installed here; run make test-serving-litserve"
)

from .pages import Ask, Page, running, storm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Page:
    return Page.of("serving-litserve.md", tmp_path_factory.mktemp("litserve"), "8000").prepare()


@pytest.fixture(scope="module")
def url(page: Page) -> Iterator[str]:
    address = f"http://127.0.0.1:{page.ports['8000']}"
    with running(page.command, page.folder, f"{address}/health"):
        yield f"{address}/predict"


def test_the_call_of_the_page_agrees_with_the_eager_model(page: Page, url: str) -> None:
    names = page.call()
    torch.testing.assert_close(names["y"], names["model"](names["x"]))


def test_a_thousand_requests_of_eight_clients_agree_with_the_eager_model(
    page: Page, url: str
) -> None:
    @contextmanager
    def connect() -> Iterator[Ask]:
        with httpx.Client(timeout=60) as client:

            def ask(x: torch.Tensor) -> torch.Tensor:
                answer = client.post(url, json={"instances": x.tolist()})
                return torch.tensor(answer.raise_for_status().json()["predictions"])

            yield ask

    assert storm(connect, page.names["model"]) == 1000


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"instances": [[0.5] * 8]}, "input"),
        ({"instances": [{"other": [0.5] * 16}]}, "not an object of input"),
        ({"instances": [["a"] * 16]}, "no FP32"),
        ({}, "instances"),
    ],
    ids=["rows of another length", "another name", "text", "no rows"],
)
def test_a_bad_request_is_answered_with_400_and_a_reason(
    url: str, body: object, reason: str
) -> None:
    answer = httpx.post(url, json=body, timeout=60)
    assert answer.status_code == 400
    assert reason in answer.json()["detail"]
