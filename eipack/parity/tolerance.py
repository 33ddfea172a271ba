"""How close is equal: the published tolerance of each output dtype.

An element agrees if |program - model| <= rtol * (|model| + typical), where `typical`
is the median magnitude of that output over all tests: of its elements that are
finite and not zero, fill values left out. Fill values are the largest magnitudes if
they are 10,000 or more, within a factor of ten of each other, and a hundred
times above all others (masks of -1e9, or of the smallest number of a dtype): they
would hide everything else. Where the last axis has one size in all tests, each of its
columns with eight such elements or more has a `typical` of its own, if that is
smaller than the whole output's: pixels would hide the scores beside them. Where the
model gives nothing but zeros, `atol` decides.

Integers and booleans must be equal; NaN and infinities must sit in the same places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from attrs import frozen
from torch import Tensor

from eipack.dtypes import dtype_name

_FILL = 1e4
_FILL_SPAN = 10.0
_FILL_GAP = 1e2
_SAMPLED = 100_000
"""Elements of an output that its typical magnitude is taken from, evenly spread."""

_COLUMN = 8
"""Elements that a column needs: the median of fewer may be next to zero by chance."""


@frozen
class Tolerance:
    """Relative tolerance of one dtype, and an absolute one for outputs that are all zeros."""

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


def typical(tensors: Iterable[Tensor]) -> float:
    """Return the typical magnitude of an output that was seen several times; 0 if all is zero."""
    magnitudes = []
    for tensor in tensors:
        if tolerance_of(dtype_name(tensor.dtype)) != EXACT:
            flat = tensor.flatten()
            values = _wide(flat[:: 1 + flat.numel() // _SAMPLED]).abs()
            magnitudes.append(values[values.isfinite() & (values > 0)])
    kept = torch.cat(magnitudes) if magnitudes else torch.empty(0)
    kept = _without_fill(kept)
    return float(kept.median()) if kept.numel() else 0.0


def scales(tensors: Sequence[Tensor]) -> Tensor:
    """Return the typical magnitude for each index of the last axis, or one for all of them."""
    whole = typical(tensors)
    one = torch.tensor(whole, dtype=torch.float64)
    widths = {tensor.shape[-1] if tensor.dim() > 1 else None for tensor in tensors}
    width = widths.pop()
    exact = any(tolerance_of(dtype_name(tensor.dtype)) == EXACT for tensor in tensors)
    if widths or not width or not whole or exact:
        return one
    rows = [tensor.reshape(-1, width) for tensor in tensors]
    most = max(_COLUMN, _SAMPLED // width)
    values = torch.cat([_wide(row[:: 1 + len(row) // most]).abs() for row in rows])
    kept = _without_fill(values[values.isfinite()])
    top = float(kept.max()) if kept.numel() else 0.0
    values[(values == 0) | ~values.isfinite() | (values > top)] = torch.nan
    enough = values.isfinite().sum(0) >= _COLUMN
    medians = values.nanmedian(0).values
    return torch.where(enough, medians, one).minimum(one)


def _without_fill(magnitudes: Tensor) -> Tensor:
    while magnitudes.numel():
        top = float(magnitudes.max())
        rest = magnitudes[magnitudes < top / _FILL_SPAN]
        fill = top >= _FILL and rest.numel() and float(rest.max()) * _FILL_GAP <= top / _FILL_SPAN
        if not fill:
            return magnitudes
        magnitudes = rest
    return magnitudes


def compare(expected: Tensor, actual: Tensor, scale: float | Tensor | None = None) -> Difference:
    """Compare one output of a program with the model's.

    `scale` is the output's typical magnitude, or one for each index of the last axis; by default
    that of `expected` alone.
    """
    if actual.dtype != expected.dtype:
        return Difference(False, None, None, f"dtype {actual.dtype}, the model {expected.dtype}")
    if actual.shape != expected.shape:
        shapes = f"shape {tuple(actual.shape)}, the model {tuple(expected.shape)}"
        return Difference(False, None, None, shapes)
    tolerance = tolerance_of(dtype_name(expected.dtype))
    if tolerance == EXACT:
        return _compare_exact(expected, actual)
    scale = typical([expected]) if scale is None else scale
    return _compare_close(_wide(expected), _wide(actual), tolerance, scale)


def _compare_exact(expected: Tensor, actual: Tensor) -> Difference:
    if torch.equal(_bits(expected), _bits(actual)):
        return Difference(True, 0.0, 0.0)
    error = (expected.double() - actual.double()).abs().max().item()
    return Difference(
        False, _finite(error), None, f"{dtype_name(expected.dtype)} values must be equal"
    )


def _bits(tensor: Tensor) -> Tensor:
    # a tensor of one element may count as contiguous with any stride, and a view needs 1
    return tensor.flatten().clone(memory_format=torch.contiguous_format).view(torch.uint8)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def _compare_close(
    expected: Tensor, actual: Tensor, tolerance: Tolerance, scale: float | Tensor
) -> Difference:
    finite = expected.isfinite()
    if not torch.equal(finite, actual.isfinite()):
        return Difference(False, None, None, "NaN or infinity in other places")
    if not torch.equal(_marks(expected[~finite]), _marks(actual[~finite])):
        return Difference(False, None, None, "NaN and infinity differ")
    if not bool(finite.any()):
        return Difference(True, 0.0, 0.0)
    error = (expected[finite] - actual[finite]).abs()
    typical_here = torch.as_tensor(scale, dtype=torch.float64).expand(expected.shape)[finite]
    size = expected[finite].abs() + typical_here
    allowed = tolerance.rtol * size + torch.where(typical_here > 0, 0.0, tolerance.atol)
    relative = torch.where(error > 0, error / size, 0.0)
    return Difference(
        bool((error <= allowed).all()), error.max().item(), _finite(relative.max().item())
    )


def _marks(values: Tensor) -> Tensor:
    """Map NaN, infinity and minus infinity to numbers that can be compared."""
    parts = torch.view_as_real(values) if values.is_complex() else values
    return parts.nan_to_num(nan=0.5, posinf=1.0, neginf=-1.0)


def _finite(value: float) -> float | None:
    return value if value == value and abs(value) != float("inf") else None  # noqa: PLR0124 - NaN
