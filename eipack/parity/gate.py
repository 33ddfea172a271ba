"""The gate: run each program beside the model, and let no difference through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn

from eipack.capture.dims import Shapes
from eipack.capture.outputs import output_specs
from eipack.capture.reference import Outputs, Reference
from eipack.errors import EipackError, ParityFailed, ParityInputsRequired, StatefulModel
from eipack.manifest import Check, OutputError
from eipack.parity.draw import Drawer
from eipack.parity.given import given_calls
from eipack.parity.sizes import size_plan
from eipack.parity.tolerance import compare, scales, tolerance_of
from eipack.signature import TensorSpec

STATIC_DRAWS = 3
"""Fresh draws at the sample's own sizes."""

Call = Callable[..., Any]


@frozen(eq=False)
class Trial:
    """One comparison to make: inputs at known sizes, and what the model gave for them.

    `seed` is None for the examples and for the caller's own inputs.
    """

    dims: Mapping[str, int]
    seed: int | None
    inputs: tuple[Tensor, ...]
    expected: Outputs

    def __str__(self) -> str:
        dims = ", ".join(f"{name}={size}" for name, size in self.dims.items())
        origin = "on given inputs" if self.seed is None else f"on fresh inputs {self.seed}"
        return origin + (f" at {dims}" if dims else "")


@frozen(eq=False)
class Trials:
    """Every trial of an export, the examples first, and each output's typical magnitudes."""

    all: tuple[Trial, ...]
    outputs: tuple[TensorSpec, ...]
    typical: tuple[Tensor, ...]
    inputs: tuple[str, ...]

    @classmethod
    def of(cls, trials: Sequence[Trial], inputs: tuple[str, ...]) -> Trials:
        """Put trials together.

        Raises:
            UnsupportedModel: The outputs' nesting, dtype or rank changes from call to call.
        """
        outputs = output_specs([(trial.dims, trial.expected) for trial in trials])
        typical = [
            scales([trial.expected.leaves[index] for trial in trials])
            for index in range(len(outputs))
        ]
        return cls(tuple(trials), outputs, tuple(typical), inputs)

    def run(self, call: Call, program: str) -> tuple[Check, ...]:
        """Run a program on every trial.

        Raises:
            ParityFailed: It fails, or its answer differs by more than the tolerance.
        """
        return tuple(self.check(call, trial, program) for trial in self.all)

    def check(self, call: Call, trial: Trial, program: str) -> Check:
        """Run a program on one trial.

        Raises:
            ParityFailed: It fails, changes its inputs, or its answer differs by more than the
                tolerance.
        """
        leaves = _answer(call, trial, program)
        if len(leaves) != len(self.outputs):
            raise ParityFailed(
                f"the {program} program gives {len(leaves)} outputs, the model {len(self.outputs)}",
                program=program,
            )
        errors = [
            _error_of(spec, scale, expected, got, trial, program)
            for spec, scale, expected, got in zip(
                self.outputs, self.typical, trial.expected.leaves, leaves, strict=True
            )
        ]
        pairs = zip(self.inputs, trial.inputs, strict=True)
        shapes = {name: tuple(leaf.shape) for name, leaf in pairs}
        return Check(dict(trial.dims), trial.seed, shapes, tuple(errors))


def _answer(call: Call, trial: Trial, program: str) -> list[Tensor]:
    inputs = [leaf.clone() for leaf in trial.inputs]
    try:
        with torch.inference_mode():
            actual = call(*inputs)
    except Exception as error:
        lines = str(error).strip().splitlines() or [repr(error)]
        raise ParityFailed(
            f"the {program} program fails {trial}: {lines[-1][:300]}", program=program
        ) from error
    for leaf, original in zip(inputs, trial.inputs, strict=True):
        if not compare(original, leaf).agrees:
            raise ParityFailed(f"the {program} program writes to its inputs", program=program)
    return [actual] if isinstance(actual, Tensor) else list(actual)


def _error_of(
    spec: TensorSpec, scale: Tensor, expected: Tensor, got: Tensor, trial: Trial, program: str
) -> OutputError:
    difference = compare(expected, got.detach().cpu(), scale)
    tolerance = tolerance_of(spec.dtype)
    if not difference.agrees:
        reason = difference.reason or (
            f"differs by {difference.max_abs:.3g} (relative {difference.max_rel or 0:.3g}, "
            f"allowed {tolerance.rtol:g})"
        )
        raise ParityFailed(
            f"output {spec.name!r} of the {program} program does not agree with the model "
            f"{trial}: {reason}",
            program=program,
            output=spec.name,
            max_abs=difference.max_abs,
            dims=dict(trial.dims),
        )
    return OutputError(
        spec.name, difference.max_abs, difference.max_rel, tolerance.rtol, tolerance.atol
    )


def trials(
    reference: Reference, shapes: Shapes, drawer: Drawer, parity_inputs: Any | None
) -> list[Trial]:
    """Run the model on the samples and on fresh inputs across the declared range.

    Raises:
        ParityInputsRequired: The drawn inputs lead to nothing but NaN, infinity or zeros, or make
            the model fail; specs or the caller's own inputs are needed.
        StatefulModel: At the end the model answers the examples in another way.
    """
    sample = shapes.sample_sizes(reference.examples)
    leaves = reference.examples.leaves
    result = [Trial(sample, None, leaves, reference(leaves))]
    if parity_inputs is not None:
        for sizes, given in given_calls(parity_inputs, reference, shapes):
            result.append(Trial(sizes, None, tuple(given), reference(given)))
    else:
        plan = [sample] * (STATIC_DRAWS - 1) + size_plan(shapes.dims, sample)
        result += drawn(reference, drawer, plan, first_seed=1)
    if not alike(result[0].expected, reference(leaves)):
        raise StatefulModel(
            "after some calls the model answers the same inputs in another way: it keeps state "
            "between calls; pass the state as an input and return it"
        )
    _require_something(reference.module, [trial.expected.leaves for trial in result])
    return result


def _require_something(module: nn.Module, answers: Sequence[Sequence[Tensor]]) -> None:
    """Refuse a model whose every output is all zeros in every trial, unless by its weights."""
    leaves = [leaf for answer in answers for leaf in answer]
    floating = any(leaf.numel() and leaf.is_floating_point() for leaf in leaves)
    if not floating or any(bool(leaf.any()) for leaf in leaves):
        return
    if not any(_zeroed(parameter) for parameter in module.parameters()):
        raise ParityInputsRequired(
            "the model gives nothing but zeros on every input, which proves nothing; say what the "
            "inputs accept by input_specs, or bring telling ones as parity_inputs"
        )


def _zeroed(weight: Tensor) -> bool:
    """Tell whether it is a matrix of zeros, as the head of an untrained vision transformer is."""
    return weight.dim() > 1 and weight.device.type != "meta" and not bool(weight.any())


def drawn(
    reference: Reference, drawer: Drawer, plan: Iterable[Mapping[str, int]], first_seed: int
) -> list[Trial]:
    """Run the model on fresh inputs at each of the sizes.

    Raises:
        ParityInputsRequired: It fails, or gives nothing but NaN or infinity.
    """
    return [_drawn(reference, drawer, at, seed) for seed, at in enumerate(plan, first_seed)]


def _drawn(reference: Reference, drawer: Drawer, sizes: Mapping[str, int], seed: int) -> Trial:
    leaves = drawer.draw(sizes, seed)
    try:
        trial = Trial(dict(sizes), seed, tuple(leaves), reference(leaves))
    except EipackError as error:
        where = ", ".join(f"{name}={size}" for name, size in sizes.items())
        raise ParityInputsRequired(
            f"the model fails on fresh inputs{f' at {where}' if where else ''} ({error}); narrow "
            "the dynamic range, or say what it accepts by input_specs or parity_inputs"
        ) from error
    for name, leaf in zip(trial.expected.names, trial.expected.leaves, strict=True):
        if leaf.is_floating_point() and leaf.numel() and not leaf.double().isfinite().any():
            raise ParityInputsRequired(
                f"on fresh inputs output {name!r} is nothing but NaN or infinity, which proves "
                "nothing; say what the inputs accept by input_specs or parity_inputs"
            )
    return trial


def alike(left: Outputs, right: Outputs) -> bool:
    """Tell whether two calls of the model gave the same, within the tolerance."""
    return left.tree == right.tree and all(
        compare(a, b).agrees for a, b in zip(left.leaves, right.leaves, strict=True)
    )
