"""A package with two programs, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import eipack


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
    exported = eipack.export(
        model.eval(), (torch.randn(2, 8),), programs=["torchscript", "exported"], name="small"
    )
    return exported.save(tmp_path_factory.mktemp("package") / "small.eipack")
