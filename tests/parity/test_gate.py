"""The gate, proved by mutation: whatever a capture gets wrong, no package comes of it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import eipack
from eipack.capture.reference import flat_module
from eipack.errors import CaptureFailed, ParityFailed, ParityInputsRequired
from eipack.parity.tolerance import Difference

X = torch.linspace(-1, 1, 12).reshape(3, 4)
BATCH = {"x": {0: torch.export.Dim("batch", min=1, max=40)}}


class Model(nn.Module):
    """Two outputs of one shape and dtype, so that they can be mistaken for each other."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(4, 4)
        self.out = nn.Linear(4, 4)

    def forward(self, x):
        hidden = torch.tanh(self.hidden(x))
        return self.out(hidden), hidden


def weight(row, column, factor):
    def mutate(module):
        module.out = copy.deepcopy(module.out)
        with torch.no_grad():
            module.out.weight[row, column] *= factor

    return mutate


def returning(change):
    """Let the captured program give something else than the model for the same inputs."""

    def mutate(module):
        module.change = change

    return mutate


def only_at(size, change):
    def at(x, a, b):
        hit = (torch.ones_like(x[:, :1]).sum() == size).to(a.dtype)
        wrong, _ = change(x, a, b)
        return a + hit * (wrong - a), b

    return returning(at)


# What can be told from the model by values alone; the others also by shape or dtype.
BY_VALUE = {
    "one weight by 1%": weight(0, 0, 1.01),
    "one weight by -1%": weight(3, 2, 0.99),
    "a weight that lost its sign": weight(1, 1, -1),
    "swapped outputs": returning(lambda x, a, b: (b, a)),
    "the same output twice": returning(lambda x, a, b: (a, a)),
    "a constant for an output": returning(lambda x, a, b: (torch.zeros_like(a) + 0.1, b)),
    "no dependence on the input": returning(lambda x, a, b: (a[:1].expand_as(a) * 1, b)),
    "rows in another order": returning(lambda x, a, b: (a.flip(0), b)),
    "columns in another order": returning(lambda x, a, b: (a[:, [1, 0, 2, 3]], b)),
    "rows that see each other": returning(lambda x, a, b: (a - 0.001 * a.mean(0), b)),
    "half precision inside": returning(lambda x, a, b: (a.half().float(), b)),
    "wrong at the largest size": only_at(40, lambda x, a, b: (a + 1, b)),
    "wrong at the smallest size": only_at(1, lambda x, a, b: (a + 1, b)),
    "wrong for negative inputs": returning(lambda x, a, b: (torch.where(x < 0, a, a * 1.1), b)),
    "NaN in one place": returning(lambda x, a, b: (torch.where(x == x.max(), torch.nan, a), b)),
}  # fmt: skip
BY_FORM = {
    "a wrong dtype": returning(lambda x, a, b: (a.double(), b)),
    "a lower dtype": returning(lambda x, a, b: (a.half(), b)),
    "a transposed output": returning(lambda x, a, b: (a.t(), b)),
    "a column too few": returning(lambda x, a, b: (a[:, 1:], b)),
    "a further axis": returning(lambda x, a, b: (a[None], b)),
    "an output too few": returning(lambda x, a, b: (a,)),
    "an output too many": returning(lambda x, a, b: (a, b, b)),
}


def sabotage(monkeypatch, mutate):
    """Hand every method of capture a model that is not quite the user's."""

    def broken(reference):
        module = copy.deepcopy(reference.module)
        module.change = lambda x, a, b: (a, b)
        mutate(module)
        original = type(module).forward
        module.forward = lambda x: module.change(x, *original(module, x))
        call = flat_module(reference)
        flat = module.forward
        object.__setattr__(call, "forward", flat)
        object.__setattr__(call, "part", module)
        call._modules = {**call._modules, "part": module}
        return call

    monkeypatch.setattr("eipack.capture.torchscript.flat_module", broken)
    monkeypatch.setattr("eipack.capture.exported.flat_module", broken)


@pytest.mark.parametrize("method", ["trace", "export"])
@pytest.mark.parametrize("name", [*BY_VALUE, *BY_FORM])
def test_a_program_that_differs_is_refused(monkeypatch, name, method):
    sabotage(monkeypatch, {**BY_VALUE, **BY_FORM}[name])
    with pytest.raises(ParityFailed):
        eipack.export(Model().eval(), (X,), method=method, dynamic_shapes=BATCH)


@pytest.mark.parametrize("name", BY_VALUE)
def test_nothing_but_the_comparison_refuses_it(monkeypatch, name):
    """A gate that always says yes would let every one of them through."""
    sabotage(monkeypatch, BY_VALUE[name])
    monkeypatch.setattr("eipack.parity.gate.compare", lambda *_, **__: Difference(True, 0.0, 0.0))
    package = eipack.export(Model().eval(), (X,), method="trace", dynamic_shapes=BATCH)
    assert package.programs


def test_the_unchanged_program_passes(monkeypatch):
    sabotage(monkeypatch, lambda module: None)
    for method in ("trace", "export"):
        assert eipack.export(Model().eval(), (X,), method=method, dynamic_shapes=BATCH).programs


def test_auto_passes_over_a_program_that_differs(monkeypatch):
    def forget_bias(program):
        module = from_exported(program)
        module.hidden.bias = nn.Parameter(torch.zeros(4))
        return module

    from eipack.capture.torchscript import from_exported

    monkeypatch.setattr("eipack.capture.capturing.from_exported", forget_bias)
    package = eipack.export(Model().eval(), (X,), dynamic_shapes=BATCH)
    assert [(p.kind, p.method) for p in package.programs] == [("torchscript", "trace")]


def test_an_onnx_program_is_held_to_the_same(monkeypatch):
    import onnx

    from eipack.capture.exported import to_onnx

    def change(*args):
        model = to_onnx(*args)
        for initializer in model.graph.initializer:
            if initializer.name.endswith("out.weight"):
                array = onnx.numpy_helper.to_array(initializer).copy()
                array[0, 0] *= 1.01
                initializer.raw_data = array.tobytes()
        return model

    monkeypatch.setattr("eipack.capture.capturing.to_onnx", change)
    with pytest.raises(ParityFailed, match="the onnx program"):
        eipack.export(Model().eval(), (X,), programs="onnx")


def test_the_gate_tests_what_is_read_back_from_the_package(monkeypatch):
    """A fault on the way into the file is found too, not only one of capture."""
    from eipack.kinds import torchscript

    original = torchscript.load

    def lose_bits(reader, device):
        module = original(reader, device)
        module.hidden.weight = nn.Parameter(module.hidden.weight.detach().bfloat16().float())
        return module

    monkeypatch.setattr(torchscript, "load", lose_bits)
    with pytest.raises(ParityFailed):
        eipack.export(Model().eval(), (X,), method="trace")


def test_the_refusal_says_which_output_where_and_by_how_much(monkeypatch):
    sabotage(monkeypatch, BY_VALUE["wrong at the largest size"])
    with pytest.raises(ParityFailed) as caught:
        eipack.export(Model().eval(), (X,), method="trace", dynamic_shapes=BATCH)
    error = caught.value
    assert "output 'output_0' of the torchscript program does not agree" in str(error)
    assert "at batch=40: differs by 1 " in str(error)
    assert (error.output, error.dims) == ("output_0", {"batch": 40})
    assert error.max_abs == pytest.approx(1)
    assert "\n" not in str(error)


def test_the_evidence_lies_in_the_manifest():
    package = eipack.export(
        Model().eval(), (X,), dynamic_shapes=BATCH, programs=["torchscript", "exported"]
    )
    for evidence, program in zip(package.manifest.evidence, package.programs, strict=True):
        assert (evidence.program, evidence.reference, evidence.target) == (
            program.id,
            "eager",
            "cpu",
        )
        assert {check.dims["batch"] for check in evidence.checks} >= {1, 2, 3, 20, 39, 40}
        assert evidence.checks[0].seed is None
        assert len({check.seed for check in evidence.checks}) == len(evidence.checks)
        for check in evidence.checks:
            assert check.inputs == {"x": (check.dims["batch"], 4)}
            for output in check.outputs:
                assert (output.rtol, output.atol) == (1e-4, 1e-6)
                assert 0 <= output.max_rel < 1e-4
                assert output.max_abs < 1e-4


def test_evidence_can_be_drawn_again_from_its_seed():
    from eipack.capture.dims import declare
    from eipack.capture.examples import examples
    from eipack.capture.reference import Reference
    from eipack.parity.draw import Drawer

    model = Model().eval()
    call = examples(model, (X,), None)
    drawer = Drawer(Reference(model, "eager", model, call), declare(BATCH, call))
    again = [drawer.draw({"batch": 7}, seed=5)[0] for _ in range(2)]
    assert torch.equal(*again)
    assert not torch.equal(again[0], drawer.draw({"batch": 7}, seed=6)[0])


def test_an_onnx_program_that_onnxruntime_cannot_run_is_refused_in_words():
    model = nn.Linear(4, 4).eval().bfloat16()
    with pytest.raises(ParityFailed, match="cannot be proved, since onnxruntime does not run it"):
        eipack.export(model, (X.bfloat16(),), programs="onnx")


def test_whatever_a_plugins_compiler_raises_is_translated(monkeypatch):
    def broken(self, program, target):
        raise ZeroDivisionError("no code today")

    monkeypatch.setattr("eipack.backend.Backend.compile", broken)
    with pytest.raises(CaptureFailed, match="compile for cpu failed: no code today"):
        eipack.export(nn.Linear(4, 4).eval(), (X,), target="cpu")


def test_a_model_that_gives_nothing_but_zeros_proves_nothing():
    with pytest.raises(ParityInputsRequired, match="nothing but zeros"):
        eipack.export(nn.Threshold(1e9, 0.0).eval(), (X,))


def test_a_head_of_zeros_as_of_an_untrained_vision_transformer_is_packaged():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)).eval()
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    assert eipack.export(model, (X,), method="trace").programs
