"""The loss of a lower precision: measured against the largest value, and held to a limit."""

from __future__ import annotations

import pytest
import torch

from eipack.errors import ParityFailed
from eipack.parity.precision import ALLOWED, held
from eipack.signature import TensorSpec

Y = TensorSpec("y", "float32", (4,))
WANTED = torch.tensor([1.0, -10.0, 0.0, 2.0])


def loss(*actual: float) -> float:
    return held("bfloat16", [Y], [WANTED], [torch.tensor(actual)]).relative


def test_the_loss_is_relative_to_the_largest_value() -> None:
    assert loss(1.1, -10.0, 0.0, 2.0) == pytest.approx(0.01, rel=1e-5)
    assert loss(1.0, -10.0, 0.0, 2.0) == 0.0


def test_more_than_is_allowed_is_refused_with_both_numbers() -> None:
    with pytest.raises(ParityFailed, match=r"'y' is off by 0\.03 of its largest.* 0\.02 is all"):
        loss(1.0, -10.3, 0.0, 2.0)


@pytest.mark.parametrize(
    "actual",
    [
        torch.zeros(3),
        WANTED.double(),
        torch.tensor([1.0, torch.nan, 0.0, 2.0]),
        torch.tensor([1.0, torch.inf, 0.0, 2.0]),
    ],
    ids=["shape", "dtype", "nan", "infinity"],
)
def test_what_does_not_compare_is_refused(actual: torch.Tensor) -> None:
    with pytest.raises(ParityFailed, match="something else"):
        held("bfloat16", [Y], [WANTED], [actual])


def test_integers_must_be_equal() -> None:
    spec = TensorSpec("label", "int64", (2,))
    labels = torch.tensor([3, 4])
    assert held("int8", [spec], [labels], [labels.clone()]).relative == 0.0
    with pytest.raises(ParityFailed, match="label"):
        held("int8", [spec], [labels], [labels + 1])


def test_infinities_in_the_same_places_agree() -> None:
    masked = torch.tensor([1.0, -torch.inf, 0.5, 2.0])
    assert held("float16", [Y], [masked], [masked.clone()]).relative == 0.0


def test_what_should_be_zero_must_be() -> None:
    with pytest.raises(ParityFailed, match="something else"):
        held("bfloat16", [Y], [torch.zeros(4)], [torch.full((4,), 1e-3)])


def test_the_worst_output_is_named() -> None:
    specs = [TensorSpec(name, "float32", (1,)) for name in "ab"]
    one = torch.ones(1)
    found = held("int8", specs, [one, one], [one, one * 1.01])
    assert found.output == "b"
    assert found.allowed == ALLOWED["int8"]
    assert str(found) == "int8: 'b' differs by 0.01 of its largest value (0.05 is allowed)"
