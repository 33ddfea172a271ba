"""The signature: enforced before the backend sees a call."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from eipack.errors import SignatureMismatch
from eipack.testing.answers import require_answer
from eipack.testing.base import ContractBase
from eipack.testing.models import call, mapped
from eipack.testing.promise import promise
from eipack.testing.zoo import supported, zoo_model

_X = torch.zeros(3, 4)

_MISFITS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "dtype": ((_X.double(),), {}),
    "rank": ((_X[0],), {}),
    "size": ((torch.zeros(3, 5),), {}),
    "no argument": ((), {}),
    "too many arguments": ((_X, _X), {}),
    "unknown keyword": ((), {"y": _X}),
    "keyword given twice": ((_X,), {"x": _X}),
    "a list": (([_X],), {}),
    "a number": ((1.0,), {}),
    "None": ((None,), {}),
    "an array": ((_X.numpy(),), {}),
    "a sparse tensor": ((_X.to_sparse(),), {}),
    "a meta tensor": ((_X.to("meta"),), {}),
}


class SignatureChecks(ContractBase):
    """What may come through to a runner."""

    @promise
    @pytest.mark.parametrize("misfit", _MISFITS)
    def test_a_misfit_never_reaches_the_program(
        self, misfit: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Refuse a call that does not fit the signature, before any native code runs."""
        reached = self._watch(monkeypatch)
        args, kwargs = _MISFITS[misfit]
        with self.open("perceptron") as session:
            with pytest.raises(SignatureMismatch):
                session(*args, **kwargs)
            with pytest.raises(SignatureMismatch):
                session.submit(*args, **kwargs).result()
        assert not reached, f"{misfit}: the program ran all the same"

    @promise
    def test_the_declared_range_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Refuse sizes outside the declared range, and sizes that contradict each other."""
        if "dynamic_shapes" not in self.supports:
            pytest.skip("needs the capability dynamic_shapes")
        reached = self._watch(monkeypatch)
        with self.open("dynamic_joined") as session:  # rows from 2 to 9
            for rows, others in ((1, 1), (10, 10), (0, 0), (3, 4)):
                with pytest.raises(SignatureMismatch):
                    session(torch.zeros(rows, 3), torch.zeros(others, 3))
        assert not reached, "the program ran all the same"

    @promise
    def test_the_structure_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Refuse inputs that are nested otherwise."""
        reached = self._watch(monkeypatch)
        inputs = zoo_model("nested").inputs()
        assert isinstance(inputs, tuple)
        batch, offset = inputs
        with self.open("nested") as session:
            for wrong in (
                {**batch, "more": offset},
                {"left": batch["left"]},
                {**batch, "right": tuple(batch["right"])},
                {**batch, "right": batch["right"][:1]},
                list(batch.values()),
            ):
                with pytest.raises(SignatureMismatch):
                    session(wrong, offset)
        assert not reached, "the program ran all the same"

    @promise
    @pytest.mark.parametrize("layout", ["transposed", "sliced", "expanded", "requires_grad"])
    def test_any_tensor_that_fits_is_taken(self, layout: str) -> None:
        """Answer rightly for tensors of any strides, and for those that require gradients."""
        for name in ("several_inputs_and_outputs", "attention"):
            model = zoo_model(name)
            inputs = mapped(model.inputs(3), lambda tensor: _relaid(tensor, layout))
            with self.open(model) as session:
                require_answer(session, model, inputs, layout)

    @promise
    def test_arguments_may_be_named(self) -> None:
        """Take arguments by keyword in any order, and leave constants out."""
        model = zoo_model("keywords")
        inputs = model.inputs(4)
        assert isinstance(inputs, dict)
        with self.open(model) as session:
            turned = dict(reversed(inputs.items()))
            require_answer(session, model, turned)
            del turned["factor"]  # 3.0, as it was exported, and not the model's default
            expected = model(inputs)
            assert torch.allclose(call(session, turned), expected), "a constant has another value"

    def _watch(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        reached: list[Any] = []

        class Watched:
            def __init__(self, runner: Any) -> None:
                self._runner = runner
                self.close = runner.close

            def __call__(self, *inputs: Any) -> Any:
                reached.append(inputs)
                return self._runner(*inputs)

        for model in supported(self.supports):
            if model.name in {"perceptron", "nested", "dynamic_joined"}:
                self.package(model)  # made before the watch begins, since making it runs it
        self.replace_load(monkeypatch, Watched)
        return reached


def _relaid(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    if layout == "requires_grad":
        return tensor.requires_grad_()
    if layout == "transposed":
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "expanded":
        return tensor[:1].expand(tensor.shape)
    padded = tensor.new_zeros(tensor.numel() + 1)
    padded[1:] = tensor.reshape(-1)
    return padded[1:].view(tensor.shape)
