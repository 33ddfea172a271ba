"""The caller's inputs on their way to another process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import eipack
from eipack.errors import SignatureMismatch
from eipack.measuring.given import leaves_of, read_inputs, write_inputs


@pytest.mark.parametrize("dtype", [torch.complex64, torch.bfloat16, torch.bool, torch.int64])
def test_inputs_come_back_as_they_were(dtype: torch.dtype, tmp_path: Path) -> None:
    model = torch.nn.Identity()
    first = torch.tensor([[0, 1], [1, 1]]).to(dtype)
    with eipack.export(model, (torch.zeros_like(first),), method="trace") as package:
        path = write_inputs(tmp_path / "inputs", package.signature, [first])
        (found,) = read_inputs(package, path)
    assert found.dtype == dtype
    assert torch.equal(found, first)


def test_the_samples_are_the_inputs_where_none_are_given(package: Path) -> None:
    with eipack.open(package) as opened:
        (found,) = read_inputs(opened, None)
        assert torch.equal(found, opened.samples()[0][0])


def test_tensors_are_put_into_the_order_of_the_signature(package: Path) -> None:
    x = torch.zeros(3, 8)
    signature = eipack.open(package).signature
    name = signature.inputs[0].name
    for given in (x, [x], (x,), {name: x}):
        assert leaves_of(signature, given)[0] is x


@pytest.mark.parametrize("given", [torch.zeros(9, 8), (), {"nobody": torch.zeros(2, 8)}, 3])
def test_what_does_not_fit_is_refused(package: Path, given: object) -> None:
    with pytest.raises(SignatureMismatch):
        leaves_of(eipack.open(package).signature, given)
