"""Engines under an accelerator: what it lends, what it prefers, and that its answers are right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from eipack_eia import attached
from torch import nn

import eipack
from eipack.registry import names

from .conftest import Served, serving

X = torch.linspace(-1, 1, 12).reshape(3, 4)
ENGINES = {"onnxruntime": "onnx", "openvino": "torchscript", "onednn": "torchscript"}


@contextmanager
def lent(store: Path, engine: str, *words: str) -> Iterator[tuple[Served, str]]:
    if f"cpu.{engine}" not in names():
        pytest.skip(f"eipack-{engine} is not installed")
    with serving(store, "--on", f"cpu+{engine}", *words) as served:
        one = served.attach()
        try:
            yield served, f"eia:{one.ordinal}"
        finally:
            attached.detach(one.id)


@pytest.mark.parametrize(("engine", "preferred"), ENGINES.items(), ids=list(ENGINES))
def test_an_engine_can_be_lent(engine: str, preferred: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2)).eval()
    with lent(tmp_path / "store", engine) as (served, target):
        package = eipack.export(model, inputs=(X,), target=target, name="lent")
        assert package.programs[0].kind == preferred
        path = package.save(tmp_path / "lent.eipack")
        with eipack.load(path, target) as session, torch.no_grad():
            torch.testing.assert_close(session(X), model(X), rtol=1e-4, atol=1e-5)
            assert session.program.kind == preferred
        (device,) = [one for one in eipack.devices() if str(one.target) == target]
        assert served.said["on"] == f"cpu+{engine}"
        assert device.healthy


def test_the_share_of_a_slice_holds_for_an_engines_own_threads(tmp_path: Path) -> None:
    with lent(tmp_path / "store", "onnxruntime", "--memory-gb", "1", "--compute-share", "0.01") as (
        served,
        _,
    ):
        said = served.control.json("GET", "v2")
        assert said["accelerator"]["enforced"]["threads"] == 1
