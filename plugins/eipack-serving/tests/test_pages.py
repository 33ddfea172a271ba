"""The how-to pages of this plugin's own servers, followed to the letter, on free ports."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import torch

from .pages import Page, running

pytestmark = pytest.mark.timeout(120)


def expected(page: Page) -> torch.Tensor:
    with torch.no_grad():
        return page.names["model"](page.names["x"])


def test_the_page_of_eipack_serve_works(tmp_path: Path) -> None:
    page = Page.of("serve.md", tmp_path, "8000").prepare()
    address = f"http://127.0.0.1:{page.ports['8000']}"
    with running(page.command, tmp_path, f"{address}/v2/health/ready"):
        made = page.call()
    torch.testing.assert_close(made["y"], expected(page))
    torch.testing.assert_close(made["rows"], expected(page))


def test_the_page_of_fastapi_works(tmp_path: Path) -> None:
    page = Page.of("serving-fastapi.md", tmp_path, "8000").prepare()
    address = f"http://127.0.0.1:{page.ports['8000']}"
    with running(page.command, tmp_path, f"{address}/v2/health/ready"):
        made = page.call()
        wrong = httpx.post(f"{address}/v2/models/classifier/infer", json={"inputs": []})
    torch.testing.assert_close(made["y"], expected(page))
    torch.testing.assert_close(torch.tensor(made["first"]), expected(page)[0])
    assert wrong.status_code == 400


def test_the_page_of_sagemaker_works(tmp_path: Path) -> None:
    page = Page.of("serving-sagemaker.md", tmp_path, "8080").prepare()
    command = ["127.0.0.1" if one == "0.0.0.0" else one for one in page.command]
    ping = f"http://127.0.0.1:{page.ports['8080']}/ping"
    with running(command, tmp_path, ping, MODEL_FOLDER=str(tmp_path)):
        made = page.call()
    torch.testing.assert_close(made["y"], expected(page))
