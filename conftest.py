"""What every test of the core, the plugins and the examples starts from."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """Forget the caller's settings, before any test module can import what reads them."""
    for name in [name for name in os.environ if name.startswith("EIPACK_")]:
        if name != "EIPACK_CONFORMANCE_JSON":
            del os.environ[name]
    os.environ["HF_HUB_OFFLINE"] = "1"


def _point_home_at(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("EIPACK_CONFIG_DIR", str(folder / "config"))
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


@pytest.fixture(scope="session", autouse=True)
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the session one signing key, so that packages made by wide fixtures stay trusted."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        _point_home_at(folder, patch)
        yield folder


@pytest.fixture
def fresh_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give one test a key, a trust list and a cache of its own, all of them still empty."""
    folder = tmp_path_factory.mktemp("fresh_home")
    _point_home_at(folder, monkeypatch)
    return folder


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    # A test that needs no torch must not pay for importing it.
    for name, seed in (("numpy", "random.seed"), ("torch", "manual_seed")):
        module = sys.modules.get(name)
        if module is not None:
            for part in seed.split("."):
                module = getattr(module, part)
            module(0)


@pytest.fixture(autouse=True)
def _gpu_if_marked(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("cuda") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU, and torch sees none")
