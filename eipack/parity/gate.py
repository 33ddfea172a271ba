"""The gate: run each program beside the model, and let no difference through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from attrs import frozen
from torch import Tensor

from eipack.capture.dims import Shapes
from eipack.capture.reference import Outputs, Reference
from eipack.errors import EipackError, ParityFailed, ParityInputsRequired
from eipack.manifest import Check, Evidence, OutputError
from eipack.parity.draw import Drawer, size_plan, user_draws
from eipack.parity.tolerance import compare, tolerance_of
from eipack.signature import TensorSpec

STATIC_DRAWS = 3
"""Fresh draws at the sample's own sizes."""

Call = Callable[..., Any]


@frozen(eq=False)
class Trial:
    """One comparison to make: inputs at known sizes, and what the model gave for them."""

    dims: Mapping[str, int]
    seed: int | None
    inputs: tuple[Tensor, ...]
    expected: Outputs


def trials(
    reference: Reference, shapes: Shapes, drawer: Drawer, parity_inputs: Any | None
) -> list[Trial]:
    """Run the model on the samples and on fresh inputs across the declared range.

    Raises:
        ParityInputsRequired: The drawn inputs lead to nothing but NaN or infinity, or make
            the model fail; specs or the caller's own inputs are needed.
    """
    sample = shapes.sample_sizes(reference.examples)
    result = [_trial(reference, sample, None, list(reference.examples.leaves))]
    if parity_inputs is not None:
        for sizes, leaves in user_draws(parity_inputs, reference, shapes):
            result.append(_trial(reference, sizes, None, leaves))
        return result
    seed = 0
    for sizes in size_plan(shapes.dims, sample):
        for _ in range(STATIC_DRAWS if sizes == sample else 1):
            seed += 1
            result.append(_drawn(reference, drawer, sizes, seed))
    return result


def _trial(
    reference: Reference, dims: Mapping[str, int], seed: int | None, leaves: Sequence[Tensor]
) -> Trial:
    return Trial(dict(dims), seed, tuple(leaves), reference(leaves))


def _drawn(reference: Reference, drawer: Drawer, sizes: Mapping[str, int], seed: int) -> Trial:
    try:
        trial = _trial(reference, sizes, seed, drawer.draw(sizes, seed))
    except EipackError as error:
        where = ", ".join(f"{name}={size}" for name, size in sizes.items())
        raise ParityInputsRequired(
            f"the model fails on fresh inputs{f' at {where}' if where else ''} ({error}); narrow "
            "the dynamic range, or say what it accepts by input_specs or parity_inputs"
        ) from error
    for name, leaf in zip(trial.expected.names, trial.expected.leaves, strict=True):
        if leaf.numel() and leaf.is_floating_point() and not bool(leaf.isfinite().any()):
            raise ParityInputsRequired(
                f"on fresh inputs output {name!r} is nothing but NaN or infinity, which proves "
                "nothing; say what the inputs accept by input_specs or parity_inputs"
            )
    return trial


def check(
    call: Call,
    trial: Trial,
    outputs: Sequence[TensorSpec],
    inputs: Sequence[str],
    program: str,
) -> Check:
    """Run a program on one trial.

    Raises:
        ParityFailed: It fails, or its answer differs by more than the tolerance.
    """
    where = _where(trial)
    try:
        with torch.inference_mode():
            actual = call(*(leaf.clone() for leaf in trial.inputs))
    except Exception as error:
        line = str(error).strip().splitlines()[-1][:300] if str(error).strip() else repr(error)
        raise ParityFailed(f"the {program} program fails{where}: {line}", program=program) from error
    leaves = (actual,) if isinstance(actual, Tensor) else tuple(actual)
    if len(leaves) != len(outputs):
        raise ParityFailed(
            f"the {program} program gives {len(leaves)} outputs, the model {len(outputs)}"
        )
    errors = []
    for spec, expected, got in zip(outputs, trial.expected.leaves, leaves, strict=True):
        difference = compare(expected, got.detach().cpu())
        tolerance = tolerance_of(spec.dtype)
        if not difference.agrees:
            reason = difference.reason or (
                f"differs by {difference.max_abs:.3g} (relative {difference.max_rel or 0:.3g}, "
                f"allowed {tolerance.rtol:g})"
            )
            raise ParityFailed(
                f"output {spec.name!r} of the {program} program does not agree with the "
                f"model{where}: {reason}",
                program=program,
                output=spec.name,
                max_abs=difference.max_abs,
                dims=dict(trial.dims),
            )
        errors.append(
            OutputError(
                spec.name, difference.max_abs, difference.max_rel, tolerance.rtol, tolerance.atol
            )
        )
    shapes = {name: tuple(leaf.shape) for name, leaf in zip(inputs, trial.inputs, strict=True)}
    return Check(dict(trial.dims), trial.seed, shapes, tuple(errors))


def _where(trial: Trial) -> str:
    dims = ", ".join(f"{name}={size}" for name, size in trial.dims.items())
    origin = "on the example inputs" if trial.seed is None else f"on fresh inputs {trial.seed}"
    return f" {origin}" + (f" at {dims}" if dims else "")


def evidence(
    program: str,
    reference: Literal["eager", "itself"],
    target: str,
    checks: Sequence[Check],
) -> Evidence:
    """Put checks together as a manifest has them."""
    return Evidence(program, reference, target, tuple(checks))
