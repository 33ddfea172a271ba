"""Fresh inputs that every candidate has to answer as plain PyTorch does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from time import perf_counter
from typing import Final

import torch
from attrs import frozen
from torch import Tensor

from eipack.backend import Precision
from eipack.capture.dims import Shapes
from eipack.errors import EipackError, ParityFailed
from eipack.package.samples import decode_samples, encode_samples
from eipack.parity.batches import sizes_of
from eipack.parity.draw import draw_like, draw_mask, like_mask
from eipack.parity.precision import held
from eipack.parity.sizes import size_plan
from eipack.parity.tolerance import compare, scales, tolerance_of
from eipack.session import Session
from eipack.signature import Signature, TensorSpec

_STATIC_DRAWS: Final = 3
_ALWAYS: Final = 8
"""So many draws are made however long they take, more while there is time."""

Sizes = Mapping[str, int]
Leaves = Sequence[Tensor]


@frozen(eq=False)
class Trial:
    """Inputs at known sizes, and the answers to them; no `sizes` are the package's own samples."""

    sizes: Sizes | None
    inputs: tuple[Tensor, ...]
    expected: tuple[Tensor, ...]

    def __str__(self) -> str:
        if self.sizes is None:
            return "on the package's samples"
        at = ", ".join(f"{name}={size}" for name, size in self.sizes.items())
        return f"on fresh inputs at {at}" if at else "on fresh inputs"


def draw(session: Session, batches: Sequence[Sizes], folder: Path, seconds: float) -> list[Sizes]:
    """Write the samples, and then fresh inputs with what the session answers, one file each.

    Returns the sizes of each trial, those of the samples first. `batches` are sizes that
    are drawn in any case, beyond those of the samples; the others only as far as they fit into
    `seconds`. What the session itself cannot answer is left out.
    """
    inputs, expected = session.package.samples()
    sample = sizes_of(session.signature, inputs)
    _write(folder, 0, session.signature, inputs, expected)
    started, found = perf_counter(), [sample]
    session.run_flat(*inputs)
    once, needed = perf_counter() - started, [{**sample, **sizes} for sizes in batches]
    for seed, sizes in enumerate([*needed, *_plan(session.signature, sample)], 1):
        spent = perf_counter() - started
        growth = prod(sizes.values()) / max(1, prod(sample.values()))
        extra = seed > len(needed)
        if extra and (once * growth > seconds or (len(found) > _ALWAYS and spent > seconds)):
            continue
        drawn = _answered(session, inputs, sizes, seed)
        if drawn is not None:
            _write(folder, len(found), session.signature, *drawn)
            found.append(sizes)
    return list(found)


def _plan(signature: Signature, sample: Sizes) -> list[dict[str, int]]:
    """List the sizes to try, those at the bounds of their dimensions before the others."""
    if not signature.dims:
        return [dict(sample)] * _STATIC_DRAWS
    plan = size_plan(signature.dims, sample)
    ends = {name: {f(one[name] for one in plan) for f in (min, max)} for name in sample}
    at_ends = [one for one in plan if all(one[name] in ends[name] for name in one)]
    return [dict(sample), *at_ends, *(one for one in plan[1:] if one not in at_ends)]


def _answered(
    session: Session, samples: Leaves, sizes: Sizes, seed: int
) -> tuple[Leaves, Leaves] | None:
    """Draw one call and answer it; masks of ones or zeros are mixed, if that gives numbers."""
    signature = session.signature
    shapes = Shapes(signature.dims, tuple(spec.shape for spec in signature.inputs)).at(sizes)
    masks = any(like_mask(leaf) for leaf in samples)
    for mixed in (True, False) if masks else (False,):
        generator = torch.Generator().manual_seed(seed)
        leaves = [
            draw_mask(leaf, shape, generator)
            if mixed and like_mask(leaf)
            else draw_like(leaf, shape, generator, None)
            for leaf, shape in zip(samples, shapes, strict=True)
        ]
        try:
            answers = session.run_flat(*leaves)
        except EipackError:
            continue
        if not mixed or not any(bool(one.isnan().any()) for one in answers):
            return leaves, answers
    return None


def _file(folder: Path, number: int) -> Path:
    return folder / f"trial-{number}.safetensors"


def _write(
    folder: Path, number: int, signature: Signature, inputs: Leaves, outputs: Leaves
) -> None:
    named = {f"input.{s.name}": t for s, t in zip(signature.inputs, inputs, strict=True)}
    named |= {f"output.{s.name}": t for s, t in zip(signature.outputs, outputs, strict=True)}
    _file(folder, number).write_bytes(encode_samples(named))


def read(folder: Path, number: int, signature: Signature) -> tuple[Leaves, Leaves]:
    """Return inputs and answers of one trial."""
    return decode_samples(_file(folder, number).read_bytes(), signature)


def check(session: Session, folder: Path, count: int, precision: Precision) -> float | None:
    """Hold a session to every trial; return the largest loss of a precision below float32.

    Raises:
        ParityFailed: It answers one otherwise; the message says which output, and at which sizes.
    """
    trials = list(_trials(session.signature, folder, count))
    outputs = session.signature.outputs
    typical = [scales([one.expected[n] for one in trials]) for n in range(len(outputs))]
    losses = [0.0]
    for trial in trials:
        actual = [tensor.detach().cpu() for tensor in session.run_flat(*trial.inputs)]
        if precision == "float32":
            for spec, scale, want, got in zip(
                outputs, typical, trial.expected, actual, strict=True
            ):
                _require(spec, scale, want, got, trial)
            continue
        try:
            losses.append(held(precision, outputs, trial.expected, actual).relative)
        except ParityFailed as error:
            raise ParityFailed(f"{trial}: {error}") from error
    return None if precision == "float32" else max(losses)


def _trials(signature: Signature, folder: Path, count: int) -> Iterator[Trial]:
    for number in range(count):
        inputs, expected = read(folder, number, signature)
        sizes = sizes_of(signature, inputs) if number else None
        yield Trial(sizes, tuple(inputs), tuple(expected))


def _require(spec: TensorSpec, scale: Tensor, want: Tensor, got: Tensor, trial: Trial) -> None:
    difference = compare(want, got, scale)
    if difference.agrees:
        return
    reason = difference.reason or (
        f"differs by {difference.max_abs:.3g} (relative {difference.max_rel or 0:.3g}, allowed "
        f"{tolerance_of(spec.dtype).rtol:g})"
    )
    raise ParityFailed(f"output {spec.name!r} {trial}: {reason}", output=spec.name)
