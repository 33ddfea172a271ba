"""Runners that each break one promise of the contract, and the check that catches each."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import pytest
import torch
from eipack_toy import ToyBackend
from torch import Tensor

Run = Callable[..., Any]


class Wrapper:
    """A runner around the toy's own, with a hook on either side."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, *inputs: Tensor) -> Sequence[Tensor]:
        return self.after(list(self.inner(*self.before(inputs))))

    def before(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return inputs

    def after(self, outputs: list[Tensor]) -> Sequence[Tensor]:
        return outputs

    def close(self) -> None:
        self.inner.close()


class OneElementOff(Wrapper):
    def after(self, outputs):
        first = outputs[0].clone()
        if first.numel() and first.is_floating_point():
            first.view(-1)[-1] += 0.01
        return [first, *outputs[1:]]


class OtherDtype(Wrapper):
    def after(self, outputs):
        return [output.double() for output in outputs]


class Swapped(Wrapper):
    def after(self, outputs):
        return outputs[::-1]


class RightOnTheSampleOnly(Wrapper):
    def after(self, outputs):
        return [torch.cat([o[:3], torch.zeros_like(o[3:])]) if o.dim() else o for o in outputs]


class RememberingCalls(Wrapper):
    calls = 0

    def after(self, outputs):
        self.calls += 1
        return [o + self.calls - 1 if o.is_floating_point() else o for o in outputs]


class OneOutputBuffer(Wrapper):
    """It gives every caller the same memory."""

    buffers: dict[Any, Tensor]

    def after(self, outputs):
        known = self.__dict__.setdefault("buffers", {})
        return [
            known.setdefault((n, o.shape), torch.empty_like(o)).copy_(o)
            for n, o in enumerate(outputs)
        ]


class OneScratchBuffer(Wrapper):
    """It parks its inputs where other threads park theirs."""

    def before(self, inputs):
        self.parked = inputs
        time.sleep(0.0005)
        return self.parked


class FaintNoise(Wrapper):
    calls = 0

    def after(self, outputs):
        self.calls += 1
        return [o * (1 + self.calls * 1e-6) if o.is_floating_point() else o for o in outputs]


class WritingToInputs(Wrapper):
    def __call__(self, *inputs):
        outputs = [output.clone() for output in self.inner(*inputs)]
        for tensor in inputs:
            tensor.zero_()
        return outputs


class IgnoringOffsets(Wrapper):
    def before(self, inputs):
        return tuple(torch.as_strided(t, t.shape, t.stride(), 0) for t in inputs)


class NeverClosing(Wrapper):
    def close(self) -> None:
        pass


class FailingToClose(Wrapper):
    def close(self) -> None:
        raise RuntimeError("the device went away")


class LeakingDescriptors(Wrapper):
    leaked: ClassVar[list[int]] = []

    def __init__(self, inner):
        super().__init__(inner)
        self.leaked.append(os.open(os.devnull, os.O_RDONLY))


class LeakingThreads(Wrapper):
    end = threading.Event()

    def __init__(self, inner):
        super().__init__(inner)
        threading.Thread(target=self.end.wait, daemon=True).start()


class LeakingMappings(Wrapper):
    kept: ClassVar[list[Any]] = []

    def __init__(self, inner):
        super().__init__(inner)
        self.kept.append(dict(inner._tensors))


class LeakingMemory(Wrapper):
    kept: ClassVar[list[Any]] = []

    def __init__(self, inner):
        super().__init__(inner)
        self.kept.append([tensor.clone() for tensor in inner._tensors.values()])


class GivingAwayWeights(Wrapper):
    def __init__(self, inner):
        super().__init__(inner)
        inner._weights = set()


@pytest.fixture(autouse=True)
def _leaks_end() -> Iterator[None]:
    yield
    for descriptor in LeakingDescriptors.leaked:
        os.close(descriptor)
    LeakingDescriptors.leaked.clear()
    LeakingMappings.kept.clear()
    LeakingMemory.kept.clear()
    LeakingThreads.end.set()
    LeakingThreads.end = threading.Event()


def test_their_unbroken_twin_keeps_every_promise(twin: Any) -> None:
    assert twin.failed == {}
    assert twin.skipped == set()
    assert len(twin.passed) > 150


@pytest.mark.parametrize(
    ("broken", "check", "told"),
    [
        (
            OneElementOff,
            "test_the_answer_is_the_models_own[perceptron]",
            "differs from the model by 0.01",
        ),
        (OtherDtype, "test_the_answer_is_the_models_own[integers]", "dtype torch.float64"),
        (Swapped, "test_the_answer_is_the_models_own[several_inputs_and_outputs]", "output '0'"),
        (
            RightOnTheSampleOnly,
            "test_the_answer_is_the_models_own[dynamic_batch]",
            "inputs of (5, 4)",
        ),
        (RememberingCalls, "test_no_state_is_kept_between_calls[perceptron]", "after another call"),
        (
            OneOutputBuffer,
            "test_no_state_is_kept_between_calls[perceptron]",
            "an earlier answer after",
        ),
        (OneScratchBuffer, "test_threads_do_not_disturb_each_other[attention]", "several threads"),
        (FaintNoise, "test_equal_inputs_give_equal_bits[perceptron]", "different bits"),
        (WritingToInputs, "test_inputs_are_only_read[perceptron]", "a call changed its inputs"),
        (
            IgnoringOffsets,
            "test_any_tensor_that_fits_is_taken[sliced]",
            "differs from the model",
        ),
        (
            GivingAwayWeights,
            "test_outputs_belong_to_the_caller[returns_parameter]",
            "after a caller wrote to outputs",
        ),
        (NeverClosing, "test_a_closed_runner_refuses_to_run", "DID NOT RAISE SessionClosed"),
        (FailingToClose, "test_closing_twice_does_nothing", "the device went away"),
        (LeakingDescriptors, "test_closing_gives_back_file_descriptors", "12 file descriptors"),
        (LeakingThreads, "test_closing_ends_threads", "12 threads"),
        (LeakingMappings, "test_closing_unmaps_the_weights", "outlive its sessions"),
        (LeakingMemory, "test_closing_gives_back_memory", "MiB behind"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_the_check_meant_for_it_catches_a_broken_runner(
    broken: type[Wrapper], check: str, told: str, run: Run, twin: Any
) -> None:
    class Broken(ToyBackend):
        def load(self, reader, target, options):
            return broken(super().load(reader, target, options))

    assert check in twin.passed

    found = run(Broken, check.partition("[")[0])

    assert check in found.failed
    assert "'toy' breaks a promise of the contract: " in found.failed[check]
    assert told in found.failed[check]
