from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from eipack import Package

from .conftest import Eipack, assert_one_line

LINEAR = ("cli_models:linear", "--input", "input=2x4")


def test_the_package_is_named_after_the_model(workplace: Path, eipack: Eipack) -> None:
    result = eipack("export", *LINEAR, "--method", "trace")
    assert result.exit_code == 0, result.stderr
    assert "linear.eipack: " in result.stdout
    assert "torchscript (by trace)" in result.stdout
    assert result.stderr == ""
    with Package.open("linear.eipack") as package:
        assert package.name == "linear"


def test_json_says_what_was_made(workplace: Path, eipack: Eipack) -> None:
    result = eipack("export", *LINEAR, "--method", "trace", "--method", "script", "--json")
    made = json.loads(result.stdout)
    assert made["path"] == "linear.eipack"
    assert made["size_bytes"] == Path("linear.eipack").stat().st_size
    assert [one["method"] for one in made["programs"]] == ["trace", "script"]


def test_every_option_reaches_the_package(workplace: Path, eipack: Eipack) -> None:
    Path("labels.json").write_text('["a", "b", "c"]')
    result = eipack(
        "export", *LINEAR, "--method", "trace", "--dynamic", "input:0=batch:1:3",
        "--spec", "input=0:1", "--asset", "labels=labels.json", "--name", "My model",
        "--package-version", "2", "--config", "width=5", "--target", "cpu",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    with Package.open("My-model.eipack") as package:
        assert (package.name, package.version) == ("My model", "2")
        assert [str(dim) for dim in package.signature.dims] == ["batch in 1..3"]
        assert package.signature.outputs[0].shape[-1] == 5
        assert list(package.manifest.assets) == ["labels"]


def test_a_file_that_is_there_is_not_replaced_unasked(workplace: Path, eipack: Eipack) -> None:
    Path("linear.eipack").write_bytes(b"precious")
    assert_one_line(eipack("export", *LINEAR), 1, "linear.eipack is there already", "--force")
    assert Path("linear.eipack").read_bytes() == b"precious"
    assert eipack("export", *LINEAR, "--method", "trace", "--force").exit_code == 0


def test_a_folder_that_is_missing_is_told_before_any_work(workplace: Path, eipack: Eipack) -> None:
    assert_one_line(eipack("export", "no_such:module", "-o", "a/b.eipack"), 1, "no folder a")


def test_a_program_kind_that_the_method_cannot_give_is_wrong_use(
    workplace: Path, eipack: Eipack
) -> None:
    words = ("--method", "trace", "--program", "onnx")
    assert_one_line(eipack("export", *LINEAR, *words), 2, "'onnx'")


def test_an_unknown_method_is_wrong_use(workplace: Path, eipack: Eipack) -> None:
    assert_one_line(eipack("export", *LINEAR, "--method", "magic"), 2, "unknown method 'magic'")


def test_inputs_that_nobody_gave_are_asked_for(workplace: Path, eipack: Eipack) -> None:
    assert_one_line(eipack("export", "cli_models:linear"), 1, "no example inputs")


def test_a_branch_is_refused_unless_allowed(workplace: Path, eipack: Eipack) -> None:
    words = ("export", "cli_models:Branching", "--input", "x=2x4", "--method", "trace")
    assert eipack(*words).exit_code == 1
    assert not Path("Branching.eipack").exists()


def test_a_torchscript_file_is_exported(workplace: Path, eipack: Eipack) -> None:
    torch.jit.script(torch.nn.Linear(4, 3).eval()).save("model.pt")
    result = eipack("export", "model.pt", "--input", "input=2x4")
    assert result.exit_code == 0, result.stderr
    assert "model.eipack" in result.stdout


def test_a_torch_export_file_is_exported(workplace: Path, eipack: Eipack) -> None:
    program = torch.export.export(torch.nn.Linear(4, 3).eval(), (torch.randn(2, 4),))
    torch.export.save(program, "model.pt2")
    result = eipack("export", "model.pt2")
    assert result.exit_code == 0, result.stderr


def test_a_missing_asset_is_one_line(workplace: Path, eipack: Eipack) -> None:
    result = eipack("export", *LINEAR, "--method", "trace", "--asset", "labels=nowhere.json")
    assert_one_line(result, 1, "labels", "nowhere.json")


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_inputs_are_read_from_a_file(workplace: Path, eipack: Eipack, suffix: str) -> None:
    from eipack.cli.inputs import write_tensors

    write_tensors({"input": torch.randn(3, 4)}, Path(f"in.{suffix}"))
    result = eipack("export", "cli_models:linear", "--input", f"in.{suffix}", "--method", "trace")
    assert result.exit_code == 0, result.stderr
    with Package.open("linear.eipack") as package:
        assert package.signature.inputs[0].shape == (3, 4)
