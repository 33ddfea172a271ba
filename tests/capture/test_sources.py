"""What may be exported besides a module: scripts, exported programs, and files of both."""

from __future__ import annotations

import zipfile

import pytest
import torch
from torch import nn
from torch.export import Dim

from eipack.errors import (
    ExampleInputsRequired,
    MethodConflict,
    ModelSourceError,
    ParityInputsRequired,
    SignatureMismatch,
    UnsupportedModel,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
X = torch.linspace(-1, 1, 12).reshape(3, 4)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": self.linear(a) + b.sum(0), "a": a}


def exported(low: int = 1, high: int = 8) -> torch.export.ExportedProgram:
    batch = Dim("batch", min=low, max=high)
    second = {0: 2 * batch - 4} if low == 3 else None
    shapes = {"a": {0: batch}, "b": second}
    return torch.export.export(Two().eval(), (X, X[:2]), dynamic_shapes=shapes)


def test_a_script_module_is_its_own_reference(export, answer):
    script = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    package = export(script, (X,))
    assert [(p.kind, p.method) for p in package.programs] == [("torchscript", "script")]
    assert package.manifest.evidence[0].reference == "itself"
    torch.testing.assert_close(answer(package, X), script(X).detach())


def test_a_frozen_script_module_is_packaged(export, answer):
    frozen = torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()))
    torch.testing.assert_close(answer(export(frozen, (X,)), X), frozen(X).detach())


def test_a_script_needs_example_inputs(export):
    with pytest.raises(ExampleInputsRequired):
        export(torch.jit.script(nn.Sequential(nn.Linear(4, 4))))


def test_a_script_whose_forward_is_overloaded_is_refused(export):
    with pytest.raises(UnsupportedModel, match="overloaded"):
        export(torch.jit.script(nn.LSTM(4, 4)), (X,))


def test_a_torchscript_file_is_packaged_under_its_name(export, answer, tmp_path):
    traced = torch.jit.trace(nn.Linear(4, 4).eval(), X)
    traced.save(tmp_path / "affine.pt")
    package = export(tmp_path / "affine.pt", (X,))
    assert package.name == "affine"
    torch.testing.assert_close(answer(package, X), traced(X).detach())


def test_an_exported_program_brings_inputs_and_dimensions_along(export, answer):
    program = exported()
    package = export(program)
    assert [(p.kind, p.method) for p in package.programs] == [("exported", "export")]
    assert [str(dim) for dim in package.signature.dims] == ["a_0 in 1..8"]
    result = answer(package, torch.ones(5, 4), X[:2])
    expected = program.module()(torch.ones(5, 4), X[:2])
    torch.testing.assert_close(result["sum"], expected["sum"].detach())


def test_sizes_of_an_exported_program_that_follow_others_must_be_declared_again(export, answer):
    """torch.export keeps such a relation in its guards alone."""
    with pytest.raises(ParityInputsRequired, match=r"Guard failed: b\.size\(\)\[0\] == "):
        export(exported(3, 8))
    batch = Dim("batch", min=3, max=8)
    package = export(exported(3, 8), dynamic_shapes={"a": {0: batch}, "b": {0: 2 * batch - 4}})
    assert str(package.signature.inputs[1]) == "b: float32[2*batch-4, 4]"
    with pytest.raises(SignatureMismatch):
        answer(package, X, X)


def test_a_pt2_file_is_packaged(export, answer, tmp_path):
    program = exported()
    torch.export.save(program, tmp_path / "two.pt2")
    package = export(str(tmp_path / "two.pt2"))
    assert package.name == "two"
    expected = program.module()(X, X[:2])
    torch.testing.assert_close(answer(package, X, X[:2])["sum"], expected["sum"].detach())


def test_a_range_beyond_that_of_an_exported_program_is_refused(export):
    with pytest.raises(ParityInputsRequired, match="batch=9"):
        export(exported(), dynamic_shapes={"a": {0: Dim("batch", min=1, max=9)}})


def test_an_exported_program_gives_onnx_too(export):
    package = export(exported(), programs=["exported", "onnx"])
    assert [program.kind for program in package.programs] == ["exported", "onnx"]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("script", {"method": "trace"}, "is TorchScript already cannot be captured by 'trace'"),
        ("script", {"programs": "exported"}, "cannot give 'exported' programs from a model that"),
        ("program", {"method": "script"}, "is an exported program already"),
        ("program", {"programs": "torchscript"}, "it cannot be scripted"),
    ],
)
def test_what_a_captured_model_cannot_become_is_said(export, model, options, message):
    script = torch.jit.script(nn.Sequential(nn.Linear(4, 4)))
    args = (script, (X,)) if model == "script" else (exported(),)
    with pytest.raises(MethodConflict, match=message):
        export(*args, **options)


def write_weights(path):
    torch.save(nn.Linear(4, 4).state_dict(), path)


def write_pickled_module(path):
    torch.save(nn.Linear(4, 4), path)


def write_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "nothing")


def write_torn_script(path):
    torch.jit.script(nn.Sequential(nn.Linear(4, 4))).save(path)
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_weights, "is a pickle of weights"),
        (write_pickled_module, "is a pickle of weights"),
        (write_zip, "neither a TorchScript nor a torch.export file"),
        (lambda path: path.write_text("import torch"), "neither a TorchScript"),
        (lambda path: path.write_bytes(b""), "neither a TorchScript"),
        (write_torn_script, "neither a TorchScript"),
        (lambda path: path.mkdir(), "there is no file"),
        (lambda path: None, "there is no file"),
    ],
    ids=["weights", "a pickled module", "a zip", "text", "empty", "torn", "a folder", "missing"],
)
def test_a_file_that_is_no_program_is_explained(export, tmp_path, write, message):
    write(tmp_path / "model.pt")
    with pytest.raises(ModelSourceError, match=message) as caught:
        export(tmp_path / "model.pt", (X,))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", [3, nn.Linear, {"a": 1}, None], ids=str)
def test_something_else_is_no_model(export, model):
    with pytest.raises(UnsupportedModel, match="cannot export a"):
        export(model, (X,))
