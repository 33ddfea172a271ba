"""Watch a model for decisions that a trace would hard-wire.

The tracer's own warnings are the first witness. They can be silenced by the model and
miss some ways to look at a tensor (strides, storage, torch.equal), so a second
one watches every conversion of a tensor to something of Python's.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.jit._trace import TracerWarning
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from eipack.capture.reference import Reference

_VALUES = {"numpy", "tolist", "__array__", "__dlpack__", "equal", "allclose", "is_nonzero"}
_CONVERSIONS = {
    "__bool__",
    "__int__",
    "__float__",
    "__complex__",
    "__index__",
    "item",
    "__format__",
}
_LAYOUT = {"stride", "storage_offset", "untyped_storage", "storage", "data_ptr", "nbytes"}
TELLING = frozenset(_VALUES | _CONVERSIONS | _LAYOUT)
"""Methods of tensors that tell Python code a value or a size."""

_TORCH = str(Path(torch.__file__).parent)


class Conversions(TorchFunctionMode):
    """Note where tensors become numbers, arrays or truth values of Python's.

    What the tracer warns of while `warned` is filled is its to report, and left out.
    """

    def __init__(self, names: frozenset[str], warned: Sequence[Any] = ()) -> None:
        super().__init__()
        self._names = names
        self._warned = warned
        self.places: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Make the call, and note it."""
        name = getattr(func, "__name__", "")
        if name == "__get__" and getattr(func, "__self__", None) is Tensor.nbytes:
            name = "nbytes"
        before = len(self._warned)
        result = func(*args, **(kwargs or {}))
        if name in self._names and len(self._warned) == before:
            self.places.append(f"{_caller()}: Python asks for {name.strip('_')} of a tensor")
        return result


def _caller() -> str:
    """Name the innermost place that belongs to neither torch nor this file."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((_TORCH, __file__)):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def warned_places(caught: Sequence[warnings.WarningMessage]) -> tuple[str, ...]:
    """Say where the tracer warned."""
    places = [
        f"{Path(one.filename).name}:{one.lineno}: {str(one.message).partition('.')[0][:120]}"
        for one in caught
        if issubclass(one.category, TracerWarning)
    ]
    return tuple(dict.fromkeys(places))


class DataReads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Note operators that hand values of the inputs to Python, as numbers or as sizes.

    `operators` are all that can; `places` are where it happens without a look at a size
    that a tracer would see: as a number, or as the length of a list of tensors.
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._from_inputs = {_address(tensor) for tensor in inputs}
        self._sized_by_values: set[int] = set()
        self.operators: list[str] = []
        self.places: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Follow what derives from the inputs by the addresses of storages."""
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        derived = any(_address(tensor) in self._from_inputs for tensor in given)
        sized = any(_address(tensor) in self._sized_by_values for tensor in given)
        result = func(*args, **(kwargs or {}))
        if derived and _tells_data(func, args):
            self.operators.append(str(func))
        if (derived and func in _NUMBERS) or (sized and isinstance(result, tuple | list)):
            self.places.append(f"{_caller()}: {func} tells Python of values of the inputs")
        self._follow_sizes(result, given, sized=sized or (derived and _sized_by_values(func, args)))
        addresses = {_address(one) for one in tree_leaves(result) if isinstance(one, Tensor)}
        if derived:
            self._from_inputs |= addresses
        else:  # an address may have been used before, by a tensor that is gone
            self._from_inputs -= addresses - {_address(tensor) for tensor in given}
        return result

    def _follow_sizes(self, result: Any, given: Sequence[Tensor], *, sized: bool) -> None:
        made = [one for one in tree_leaves(result) if isinstance(one, Tensor)]
        # a write gives its target, whose size was there before, and a scalar has none
        own = {_address(one) for one in made if not any(one is old for old in given)}
        scalars = {_address(one) for one in made if not one.dim()}
        if sized:
            self._sized_by_values |= own - scalars
        else:
            self._sized_by_values -= own - {_address(tensor) for tensor in given}


_NUMBERS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default}


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())


def _tells_data(func: Any, args: Sequence[Any]) -> bool:
    if torch.Tag.data_dependent_output in func.tags or func in _NUMBERS:
        return True
    return _sized_by_values(func, args)


def _sized_by_values(func: Any, args: Sequence[Any]) -> bool:
    if func is torch.ops.aten.index.Tensor:
        return any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1])
    return torch.Tag.dynamic_output_shape in func.tags


def reads_data(reference: Reference) -> str | None:
    """Say how the model's Python code learns values of its inputs, None if it does not.

    Its sizes it may know: they are checked size by size. No number of tests can show
    the other side of a decision on values.
    """
    leaves = [leaf.clone() for leaf in reference.examples.leaves]
    reads, conversions = DataReads(leaves), Conversions(frozenset(_VALUES))
    with conversions, reads:
        reference.call(leaves)
    found = [*conversions.places, *reads.operators]
    return found[0] if found else None
