"""How much an answer may lose by being computed in less than float32, and how much it does.

The loss of an output is its largest absolute error, relative to the largest magnitude of what
the model gives for it. It is measured on the package's samples when a session is opened, and by
`eipack tune` on fresh inputs as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from attrs import frozen

from eipack.backend import Precision
from eipack.errors import ParityFailed

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.session import Session
    from eipack.signature import TensorSpec

ALLOWED: Final[dict[str, float]] = {
    "bfloat16": 2e-2,
    "float16": 5e-3,
    "int8": 5e-2,
}
"""The largest loss that a session in each precision may have."""


@frozen
class Loss:
    """What a precision costs: the largest loss of any output, and which output has it."""

    precision: Precision
    relative: float
    allowed: float
    output: str

    def __str__(self) -> str:
        return (
            f"{self.precision}: {self.output!r} differs by {self.relative:.2g} of its largest "
            f"value ({self.allowed:g} is allowed)"
        )


def loss_of(session: Session, precision: Precision) -> Loss:
    """Measure what a session loses on its package's samples.

    Raises:
        ParityFailed: More than its precision may.
    """
    inputs, expected = session.package.samples()
    return held(precision, session.signature.outputs, expected, session.run_flat(*inputs))


def held(
    precision: Precision,
    specs: Sequence[TensorSpec],
    expected: Sequence[Tensor],
    actual: Sequence[Tensor],
) -> Loss:
    """Hold outputs to the model's own, by what the precision allows.

    Raises:
        ParityFailed: One differs by more, or in its shape, its dtype, its NaN or an integer.
    """
    allowed = ALLOWED[precision]
    worst = Loss(precision, 0.0, allowed, specs[0].name if specs else "")
    for spec, want, got in zip(specs, expected, actual, strict=True):
        relative = _relative(want, got.detach().cpu())
        if relative is None or relative > allowed:
            found = "something else" if relative is None else f"{relative:.3g} of its largest value"
            raise ParityFailed(
                f"computed in {precision}, output {spec.name!r} is off by {found}, and {allowed:g} "
                "is allowed; use float32",
                output=spec.name,
            )
        if relative > worst.relative:
            worst = Loss(precision, relative, allowed, spec.name)
    return worst


def _relative(expected: Tensor, actual: Tensor) -> float | None:
    """Return the largest error relative to the largest magnitude; None if nothing compares."""
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return None
    if not expected.numel():
        return 0.0
    if not (expected.is_floating_point() or expected.is_complex()):
        return 0.0 if bool((expected == actual).all()) else None
    finite = expected.isfinite()
    if bool((finite != actual.isfinite()).any()):
        return None
    error = (expected - actual)[finite].abs().double()
    largest = float(expected[finite].abs().double().max()) if error.numel() else 0.0
    if not largest:
        return 0.0 if not error.numel() or not float(error.max()) else None
    return float(error.max()) / largest
