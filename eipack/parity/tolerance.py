"""How close is equal: the published tolerance of each output dtype.

An element agrees if |program - model| <= atol + rtol * (|model| + typical), where
`typical` is the median magnitude of the model's non-zero finite elements in that
output. Integers and booleans must be equal; NaN and infinities must sit in the same
places.
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from eipack.errors import UnsupportedModel


@frozen
class Tolerance:
    """Relative and absolute tolerance of one dtype."""

    rtol: float
    atol: float


TOLERANCES: dict[str, Tolerance] = {
    "float64": Tolerance(1e-9, 1e-12),
    "complex128": Tolerance(1e-9, 1e-12),
    "float32": Tolerance(1e-4, 1e-6),
    "complex64": Tolerance(1e-4, 1e-6),
    "float16": Tolerance(5e-3, 1e-4),
    "bfloat16": Tolerance(2e-2, 1e-3),
}
"""Every dtype that is not listed is exact."""

EXACT = Tolerance(0.0, 0.0)


def tolerance_of(dtype: str) -> Tolerance:
    """Return the tolerance of a dtype by torch's name."""
    return TOLERANCES.get(dtype, EXACT)


@frozen
class Difference:
    """The largest absolute and relative error of one output; `agrees` is the verdict.

    `max_rel` is relative to `|model| + typical`. Both are None where the shape, the
    dtype or the places of NaN differ, which `reason` says.
    """

    agrees: bool
    max_abs: float | None
    max_rel: float | None
    reason: str = ""


def compare(expected: Tensor, actual: Tensor) -> Difference:
    """Compare one output of a program with the model's."""
    if actual.dtype != expected.dtype:
        return Difference(False, None, None, f"dtype {actual.dtype}, the model {expected.dtype}")
    if actual.shape != expected.shape:
        shapes = f"shape {tuple(actual.shape)}, the model {tuple(expected.shape)}"
        return Difference(False, None, None, shapes)
    tolerance = tolerance_of(str(expected.dtype).removeprefix("torch."))
    if tolerance == EXACT:
        return _compare_exact(expected, actual)
    return _compare_close(_wide(expected), _wide(actual), tolerance)


def _compare_exact(expected: Tensor, actual: Tensor) -> Difference:
    if expected.is_quantized:
        raise UnsupportedModel("an output is a quantised tensor; dequantise it in the model")
    if torch.equal(expected, actual):
        return Difference(True, 0.0, 0.0)
    error = (expected.double() - actual.double()).abs().max().item()
    return Difference(False, error, None, "integers and booleans must be equal")


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def _compare_close(expected: Tensor, actual: Tensor, tolerance: Tolerance) -> Difference:
    finite = expected.isfinite()
    if not torch.equal(finite, actual.isfinite()):
        return Difference(False, None, None, "NaN or infinity in other places")
    rest = ~finite
    if not torch.equal(
        expected[rest].nan_to_num(nan=0.5), actual[rest].nan_to_num(nan=0.5)
    ):
        return Difference(False, None, None, "NaN and infinity differ")
    magnitude = expected[finite].abs()
    if not magnitude.numel():
        return Difference(True, 0.0, 0.0)
    nonzero = magnitude[magnitude > 0]
    typical = nonzero.median().item() if nonzero.numel() else 0.0
    error = (expected[finite] - actual[finite]).abs()
    allowed = tolerance.atol + tolerance.rtol * (magnitude + typical)
    relative = error / (magnitude + typical).clamp_min(torch.finfo(torch.float64).tiny)
    return Difference(
        bool((error <= allowed).all()), error.max().item(), _finite(relative.max().item())
    )


def _finite(value: float) -> float | None:
    return value if value == value and abs(value) != float("inf") else None
