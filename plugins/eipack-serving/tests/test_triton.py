"""What a Triton model repository holds that `eipack serving triton` has written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from eipack_serving.triton import MODEL, write_repository

import eipack
from eipack.cli.root import root
from eipack.errors import (
    EipackError,
    PackageIOError,
    ProgramNotFound,
    UnsupportedModel,
    UntrustedPackage,
)

from .conftest import Packed

PYTHON = """\
name: "scorer"
backend: "python"
max_batch_size: 16
input: [{name: "x", data_type: TYPE_FP32, dims: [8]}, {name: "shift", data_type: TYPE_FP32, dims: [4]}]
output: [{name: "scores", data_type: TYPE_FP32, dims: [4]}, {name: "best", data_type: TYPE_INT64, dims: [1]}]
dynamic_batching {}
parameters: [{key: "target", value {string_value: "eia:0"}}]
instance_group: [{kind: KIND_CPU, count: 1}]
"""  # noqa: E501 - as Triton reads it
PYTORCH = """\
name: "pair"
backend: "pytorch"
max_batch_size: 0
input: [{name: "INPUT__0", data_type: TYPE_FP32, dims: [-1, 4]}]
output: [{name: "OUTPUT__0", data_type: TYPE_FP32, dims: [-1, 4]}, {name: "OUTPUT__1", data_type: TYPE_BOOL, dims: [-1]}]
"""  # noqa: E501 - as above


class Pair(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 2 * x, x.sum(-1) > 0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    batch = {0: torch.export.Dim("batch", min=1, max=8)}
    package = eipack.export(
        Pair().eval(),
        (torch.randn(2, 4),),
        dynamic_shapes={"x": batch},
        programs=["torchscript"],
        name="pair",
    )
    return package.save(tmp_path_factory.mktemp("pair") / "pair.eipack")


def invoke(*words: object) -> Result:
    return CliRunner().invoke(root, ["serving", "triton", *map(str, words)])


def test_the_python_backend_gets_the_package_with_the_signatures_names(
    packed: Packed, tmp_path: Path
) -> None:
    written = write_repository(packed.path, tmp_path / "models", settings={"target": "eia:0"})
    assert (written.folder, written.max_batch_size) == (tmp_path / "models" / "scorer", 16)
    found = {str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*") if one.is_file()}
    model = "models/scorer"
    assert found == {f"{model}/config.pbtxt", f"{model}/1/model.py", f"{model}/1/model.eipack"}
    assert (written.folder / "config.pbtxt").read_text() == PYTHON
    assert (written.folder / "1" / "model.py").read_text() == MODEL
    assert (written.folder / "1" / "model.eipack").read_bytes() == packed.path.read_bytes()


def test_the_pytorch_backend_gets_torchscript_by_position(pair: Path, tmp_path: Path) -> None:
    written = write_repository(pair, tmp_path, backend="pytorch", max_batch=0)
    assert (written.folder / "config.pbtxt").read_text() == PYTORCH
    x = torch.randn(3, 4)
    doubled, positive = torch.jit.load(written.folder / "1" / "model.pt")(x)
    torch.testing.assert_close(doubled, 2 * x)
    assert positive.tolist() == (x.sum(-1) > 0).tolist()


@pytest.mark.parametrize(("asked", "rows"), [(None, 16), (4, 4), (0, 0), (100, 16)])
def test_batches_are_no_larger_than_was_shown_to_be_sound(
    packed: Packed, tmp_path: Path, asked: int | None, rows: int
) -> None:
    written = write_repository(packed.path, tmp_path, max_batch=asked)
    assert written.max_batch_size == rows
    text = (written.folder / "config.pbtxt").read_text()
    assert ("dynamic_batching" in text) == bool(rows)
    assert ("dims: [-1, 8]" in text) != bool(rows)


def test_an_output_without_an_axis_beside_the_batch_makes_no_batches(
    pair: Path, tmp_path: Path
) -> None:
    assert write_repository(pair, tmp_path).max_batch_size == 0


def test_rows_that_depend_on_each_other_make_no_batches(tmp_path: Path) -> None:
    class Mixing(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - x.mean(0)

    batch = {0: torch.export.Dim("batch", min=1, max=8)}
    package = eipack.export(
        Mixing().eval(), (torch.randn(4, 3),), dynamic_shapes={"x": batch}, name="mixing"
    )
    path = package.save(tmp_path / "mixing.eipack")
    assert write_repository(path, tmp_path / "models").max_batch_size == 0


def test_a_model_that_is_there_is_not_replaced(packed: Packed, tmp_path: Path) -> None:
    write_repository(packed.path, tmp_path)
    with pytest.raises(PackageIOError, match="is there already"):
        write_repository(packed.path, tmp_path)
    write_repository(packed.path, tmp_path, name="another")


def test_a_name_that_is_no_folders_is_told_as_such(packed: Packed, tmp_path: Path) -> None:
    with pytest.raises(PackageIOError, match=r"'\.\./x' is no folder's name"):
        write_repository(packed.path, tmp_path, name="../x")


def test_a_failure_leaves_nothing_behind(
    packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(eipack.Package, "save", fail)
    with pytest.raises(PackageIOError, match=r"cannot write .*No space left"):
        write_repository(packed.path, tmp_path / "models")
    assert not list((tmp_path / "models").iterdir())


def test_whoever_is_not_trusted_is_refused(
    packed: Packed, tmp_path: Path, fresh_home: Path
) -> None:
    with pytest.raises(UntrustedPackage):
        write_repository(packed.path, tmp_path / "models")
    assert not (tmp_path / "models").exists()


class Scalar(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum()


@pytest.mark.parametrize(
    ("program", "backend", "error", "said"),
    [
        ("exported", "pytorch", ProgramNotFound, "no torchscript program"),
        ("torchscript", "python", UnsupportedModel, "no axis"),
    ],
)
def test_what_triton_cannot_run_is_refused(
    tmp_path: Path, program: str, backend, error: type[EipackError], said: str
) -> None:
    package = eipack.export(Scalar().eval(), (torch.ones(3),), programs=[program], name="sum")
    path = package.save(tmp_path / "sum.eipack")
    with pytest.raises(error, match=said):
        write_repository(path, tmp_path / "models", backend=backend)


def test_outputs_by_name_are_not_for_the_pytorch_backend(packed: Packed, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="take --backend python"):
        write_repository(packed.path, tmp_path, backend="pytorch")


def test_the_command_says_what_it_wrote(packed: Packed, tmp_path: Path) -> None:
    result = invoke(packed.path, "-o", tmp_path, "--target", "eia:0", "--threads", "2")
    assert result.exit_code == 0, result.stderr
    assert "scorer for the python backend, batches of up to 16 rows" in result.stdout
    text = (tmp_path / "scorer" / "config.pbtxt").read_text()
    assert '{key: "threads", value {string_value: "2"}}' in text


def test_the_command_prints_json(packed: Packed, tmp_path: Path) -> None:
    result = invoke(packed.path, "-o", tmp_path, "--name", "mine", "--max-batch", "0", "--json")
    assert json.loads(result.stdout) == {
        "model": "mine",
        "folder": str(tmp_path / "mine"),
        "backend": "python",
        "max_batch_size": 0,
    }


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--backend", "pytorch", "--target", "cpu"), 2, "--target is for the Python backend"),
        (("--backend", "onnx"), 2, "--backend"),
        (("--name", "a/b"), 1, "choose another --name"),
    ],
)
def test_wrong_use_is_told_in_a_line(
    packed: Packed, tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    result = invoke(packed.path, "-o", tmp_path / "models", *words)
    assert result.exit_code == code
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
