"""How an answer is held against the model's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eipack.parity.tolerance import compare
from eipack.session import Session
from eipack.testing.models import Inputs, ZooModel, call, tensors
from eipack.tree import describe


def require_answer(session: Session, model: ZooModel, inputs: Inputs, where: str = "") -> Any:
    """Call a session, require the model's own answer of it, and return that.

    Raises:
        AssertionError: They differ.
    """
    expected = model(inputs)
    actual = call(session, inputs)
    require_equal(expected, actual, f"{model.name}{f', {where}' if where else ''}")
    return actual


def require_equal(expected: Any, actual: Any, where: str) -> None:
    """Compare structure, devices, dtypes, shapes and values.

    Raises:
        AssertionError: They differ.
    """
    tree, leaves, names = describe(expected, constants=False)
    found_tree, found, _ = describe(actual, constants=False)
    assert found_tree == tree, f"{where}: the outputs are nested as {found_tree}, not as {tree}"
    for name, wanted, got in zip(names, leaves, found, strict=True):
        place = f"{where}: output {name!r}" if name else f"{where}: the output"
        assert got.device.type == "cpu", f"{place} was left on {got.device}, not on the host"
        difference = compare(wanted, got)
        if not difference.agrees:
            reason = difference.reason or f"differs from the model by {difference.max_abs:.3g}"
            raise AssertionError(f"{place}: {reason}")


def same_bits(left: Any, right: Any) -> bool:
    """Tell whether two nested values hold the same bits."""
    pairs = zip(tensors(left), tensors(right), strict=True)
    return all(_bits(a) == _bits(b) for a, b in pairs)


def _bits(tensor: Tensor) -> tuple[torch.dtype, torch.Size, list[int]]:
    flat = tensor.detach().contiguous().reshape(-1)
    return tensor.dtype, tensor.shape, flat.view(torch.uint8).tolist() if flat.numel() else []
