"""`inspect`, `extract` and `diff`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from eipack import export

from .conftest import Eipack, assert_one_line


def test_inspect_shows_what_the_package_holds(eipack: Eipack, package_file: Path) -> None:
    shown = eipack("inspect", package_file).stdout
    assert "classes 1.2" in shown
    assert "input: float32[batch, 4]" in shown
    assert "batch in 1..4" in shown
    assert "torchscript-trace (torchscript) by trace" in shown
    assert shown.count("its own, rows independent") == 2
    assert "2 tensors, " in shown
    assert "labels: 1 file" in shown
    assert "against the eager model, largest difference" in shown
    assert "own key" in shown


def test_inspect_lists_every_weight_on_request(eipack: Eipack, package_file: Path) -> None:
    assert "6x4" not in eipack("inspect", package_file).stdout
    assert "6x4" in eipack("inspect", package_file, "--tensors").stdout


def test_what_could_steer_a_terminal_is_shown_escaped(
    eipack: Eipack, tmp_path: Path, shared_home: Path
) -> None:
    path = tmp_path / "hostile.eipack"
    name = "a\x1b]0;owned\x07\x9b2J\u202e\U000e0041é"
    model = torch.nn.Linear(2, 2).eval()
    package = export(model, inputs=(torch.zeros(1, 2),), method="trace", name=name)
    package.save(path)
    shown = eipack("inspect", path).stdout
    assert r"a\x1b]0;owned\x07\x9b2J\u202e\U000e0041é" in shown
    document = eipack("inspect", path, "--json").stdout
    assert json.loads(document)["manifest"]["name"] == name
    failed = eipack("extract", path, "--program", "\x1b[2J", "-o", tmp_path / "out.pt")
    assert_one_line(failed, 1, r"\x1b[2J")
    for text in (shown, document, failed.stderr):
        assert text.replace("\n", "").isprintable()


def test_inspect_gives_the_manifest_as_json(eipack: Eipack, package_file: Path) -> None:
    found = json.loads(eipack("inspect", package_file, "--json").stdout)
    assert found["file"]["size_bytes"] == package_file.stat().st_size
    assert found["manifest"]["name"] == "classes"
    assert [signer["trusted"] for signer in found["signers"]] == [True]


def test_a_strangers_package_can_be_inspected(
    eipack: Eipack, package_file: Path, fresh_home: Path
) -> None:
    result = eipack("inspect", package_file)
    assert result.exit_code == 0
    assert "not trusted here" in result.stdout


def test_inspect_works_where_the_list_of_keys_is_damaged(
    eipack: Eipack, package_file: Path, fresh_home: Path
) -> None:
    (fresh_home / "config").mkdir(mode=0o700)
    (fresh_home / "config" / "trusted-keys.json").write_text("{")
    result = eipack("inspect", package_file)
    assert result.exit_code == 0
    assert "is damaged" in result.stdout


def test_no_line_ends_in_blanks_in_a_pipe(eipack: Eipack, package_file: Path) -> None:
    lines = eipack("inspect", package_file, "--tensors").stdout.splitlines()
    assert all(line == line.rstrip() for line in lines)


def test_a_program_is_extracted(eipack: Eipack, package_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    result = eipack("extract", package_file, "--program", "script", "-o", out)
    assert result.exit_code == 0, result.stderr
    assert torch.jit.load(out)(torch.zeros(2, 4)).shape == (2, 6)


def test_an_extracted_file_replaces_none_unasked(
    eipack: Eipack, package_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model.pt"
    out.write_bytes(b"precious")
    words = ("extract", package_file, "--program", "trace", "-o", out)
    assert_one_line(eipack(*words), 1, "is there already")
    assert out.read_bytes() == b"precious"
    made = json.loads(eipack(*words, "--force", "--json").stdout)
    assert made["size_bytes"] == out.stat().st_size


@pytest.mark.parametrize(
    ("output", "told"), [("nowhere/model.pt", "there is no folder"), (".", "is a folder")]
)
def test_a_place_that_cannot_be_written_is_one_line(
    eipack: Eipack, package_file: Path, output: str, told: str
) -> None:
    words = ("extract", package_file, "--program", "trace", "-o", output)
    assert_one_line(eipack(*words), 1, told)


def test_a_package_does_not_differ_from_itself(eipack: Eipack, package_file: Path) -> None:
    shown = eipack("diff", package_file, package_file).stdout
    assert "nothing differs" in shown
    assert json.loads(eipack("diff", package_file, package_file, "--json").stdout)["same"] is True


def test_a_difference_is_shown_tensor_by_tensor(
    eipack: Eipack, package_file: Path, workplace: Path
) -> None:
    made = eipack("export", "cli_models:classes", "--input", "2x4", "--method", "trace")
    assert made.exit_code == 0, made.stderr
    shown = eipack("diff", package_file, "classes.eipack").stdout
    assert "bias: values" in shown
    found = json.loads(eipack("diff", package_file, "classes.eipack", "--json").stdout)
    assert found["same"] is False
