from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from .conftest import Eipack, assert_one_line


@pytest.fixture(scope="module")
def exported(shared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from eipack import export

    path = tmp_path_factory.mktemp("compile") / "linear.eipack"
    with export(torch.nn.Linear(4, 6).eval(), (torch.randn(2, 4),), target="toy") as package:
        package.save(path)
    return path


def test_compile_tells_what_it_added(eipack: Eipack, exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "native.eipack"
    result = eipack("compile", exported, "--target", "toy", "-o", out)

    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{out}: toy for toy, ")


def test_compile_prints_json(eipack: Eipack, exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "native.eipack"
    result = eipack(
        "compile", exported, "--target", "toy", "--target", "toy:1", "-o", out, "--json"
    )

    assert [one["target"] for one in json.loads(result.stdout)["compiled"]] == ["toy", "toy:1"]


def test_compile_overwrites_only_if_told_to(eipack: Eipack, exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "native.eipack"
    out.touch()

    assert_one_line(eipack("compile", exported, "--target", "toy", "-o", out), 1, "--force")
    assert eipack("compile", exported, "--target", "toy", "-o", out, "--force").exit_code == 0


def test_a_target_that_compiles_nothing_is_told_in_a_line(
    eipack: Eipack, exported: Path, tmp_path: Path
) -> None:
    out = tmp_path / "native.eipack"
    result = eipack("compile", exported, "--target", "cpu", "-o", out)

    assert_one_line(result, 1, "cpu compiles nothing")
    assert not out.exists()


def test_compile_needs_a_target(eipack: Eipack, exported: Path, tmp_path: Path) -> None:
    result = eipack("compile", exported, "-o", tmp_path / "out.eipack")
    assert_one_line(result, 2, "--target")
