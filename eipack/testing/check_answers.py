"""Answers: those of the model, for every model, and nothing left behind by a call."""

from __future__ import annotations

import os
import random
import signal
from typing import Any

import pytest
import torch

from eipack.errors import EipackError
from eipack.testing.answers import require_answer, require_equal, same_bits
from eipack.testing.base import ContractBase
from eipack.testing.models import ZooModel, call, copied, mapped, tensors
from eipack.testing.promise import promise
from eipack.testing.zoo import unsupported, zoo_model


class AnswerChecks(ContractBase):
    """What a call gives, and what it leaves as it was."""

    @promise
    def test_the_answer_is_the_models_own(self, model: ZooModel) -> None:
        """Answer as the model does, at the bounds of every declared range too."""
        with self.open(model) as session:
            for inputs in model.calls():
                shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors(inputs))
                require_answer(session, model, inputs, f"inputs of {shapes}")

    @promise
    def test_what_is_not_supported_is_refused(self) -> None:
        """Refuse a model beyond the declared capabilities by an EipackError, or answer rightly."""
        self.need_device()
        for model in unsupported(self.supports):
            try:
                session = self.open(model)
            except EipackError:
                continue
            with session:
                for inputs in model.calls():
                    _require_or_refuse(session, model, inputs)

    @promise
    @pytest.mark.parametrize("name", ["perceptron", "convolution", "attention"])
    def test_equal_inputs_give_equal_bits(self, name: str) -> None:
        """Give the same bits for the same inputs, whatever was called in between."""
        model = zoo_model(name)
        with self.open(model) as session:
            first = copied(call(session, model.inputs(1)))
            call(session, model.inputs(2))
            again = call(session, model.inputs(1))
        assert same_bits(first, again), f"{name}: equal inputs gave different bits"

    @promise
    def test_no_state_is_kept_between_calls(self, model: ZooModel) -> None:
        """Keep nothing between calls: an answer depends on its own inputs alone."""
        first, second = model.inputs(1), model.inputs(2)
        with self.open(model) as session:
            kept = require_answer(session, model, first)
            require_answer(session, model, second, "after another call")
            require_equal(model(first), kept, f"{model.name}, an earlier answer after a later call")
            require_answer(session, model, first, "called again")

    @promise
    def test_outputs_belong_to_the_caller(self, model: ZooModel) -> None:
        """Give outputs that the caller may write to without changing any later answer."""
        expected = model(model.inputs(1))
        for outputs_on in ("device", "host"):
            with self.open(model, outputs_on=outputs_on) as session:
                for tensor in tensors(call(session, model.inputs(1))):
                    _scribble(tensor)
                again = mapped(call(session, model.inputs(1)), torch.Tensor.cpu)
                require_equal(expected, again, f"{model.name}, after a caller wrote to outputs")
        with self.open(model) as session:
            require_answer(session, model, model.inputs(1), "in a session after that")

    @promise
    def test_inputs_are_only_read(self, model: ZooModel) -> None:
        """Leave the caller's inputs as they were."""
        inputs = model.inputs(1)
        before = copied(inputs)
        with self.open(model) as session:
            call(session, inputs)
        assert same_bits(before, inputs), f"{model.name}: a call changed its inputs"

    @promise
    def test_the_process_stays_as_it_was(self) -> None:
        """Leave torch's modes, random numbers, environment and signals of the process alone."""
        model = zoo_model("perceptron")
        self.open(model).close()
        before = _process_state()
        with self.open(model) as session:
            call(session, model.inputs(1))
            during = _process_state()
        after = _process_state()
        for name, value in before.items():
            assert during[name] == value, f"a call changed the process's {name}"
            assert after[name] == value, f"closing changed the process's {name}"


def _require_or_refuse(session: Any, model: ZooModel, inputs: Any) -> None:
    try:
        actual = call(session, inputs)
    except EipackError:
        return
    require_equal(model(inputs), actual, f"{model.name}, though it is not supported")


def _scribble(tensor: torch.Tensor) -> None:
    with torch.inference_mode():
        if tensor.dtype is torch.bool:
            tensor.logical_not_()
        else:
            tensor.fill_(77)


def _process_state() -> dict[str, Any]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    return {
        "gradient mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "number of threads": torch.get_num_threads(),
        "deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "random numbers of torch": torch.get_rng_state().tolist(),
        "random numbers": random.getstate(),
        "environment variables": environment,
        "working directory": os.getcwd(),  # noqa: PTH109 - a string to compare
        "answer to SIGINT": signal.getsignal(signal.SIGINT),
    }
