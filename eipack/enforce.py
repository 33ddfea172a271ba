"""Check each call against the signature before any native code runs.

This is on the hot path of every session: the common case (tensors by position,
in their own order) costs about a microsecond a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from eipack.dtypes import torch_dtype
from eipack.errors import SignatureMismatch
from eipack.signature import Dim, DimSize, Signature, TensorSpec
from eipack.tree import flatten

Check = Callable[[torch.Tensor, dict[str, int]], bool]


_PLAIN = frozenset({torch.Tensor, torch.nn.Parameter})
"""Subclasses would run their own Python in place of the program's operators."""


class Enforcer:
    """Turn a call's arguments into flat tensors that fit the signature."""

    def __init__(self, signature: Signature, devices: frozenset[str]) -> None:
        self._signature = signature
        self._devices = devices
        self._simple = signature.input_tree.is_flat
        self._count = len(signature.inputs)
        self._checks = tuple(_compile(spec, devices) for spec in signature.inputs)
        self._dims = {dim.name: dim for dim in signature.dims}

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the call's tensors in signature order.

        Raises:
            SignatureMismatch: Structure, dtype, rank, a size or the device is wrong.
        """
        if not self._simple or kwargs or len(args) != self._count:
            bound = self._signature.bind(args, kwargs)
            args = tuple(flatten(self._signature.input_tree, bound))
        return self.check(args)

    def check(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return tensors that are in signature order already, if they fit.

        Raises:
            SignatureMismatch: Their number, or a dtype, rank, size or device is wrong.
        """
        if len(args) != self._count:
            raise SignatureMismatch(f"{len(args)} inputs were given, expected {self._count}")
        sizes: dict[str, int] = {}
        for check, tensor in zip(self._checks, args):  # noqa: B905 - lengths are equal here
            if not check(tensor, sizes):
                self._explain(args)
        for name, size in sizes.items():
            if not self._dims[name].admits(size):
                self._explain(args)
        return args

    def _explain(self, args: tuple[Any, ...]) -> None:
        sizes: dict[str, tuple[int, str]] = {}
        for spec, tensor in zip(self._signature.inputs, args, strict=True):
            reason = explain(spec, tensor, self._dims, sizes, self._devices)
            if reason:
                raise SignatureMismatch(f"input {spec.name!r}: {reason}", input=spec.name)
        raise AssertionError("a call that was refused fits its signature")


def _compile(spec: TensorSpec, devices: frozenset[str]) -> Check:
    dtype = torch_dtype(spec.dtype)
    rank = len(spec.shape)
    fixed = tuple((axis, size) for axis, size in enumerate(spec.shape) if isinstance(size, int))
    named = tuple((axis, size) for axis, size in enumerate(spec.shape) if isinstance(size, DimSize))
    static = torch.Size([size for _, size in fixed]) if not named else None
    strided = torch.strided
    plain = _PLAIN

    def check_static(tensor: torch.Tensor, sizes: dict[str, int]) -> bool:
        return (
            type(tensor) in plain
            and tensor.dtype is dtype
            and tensor.shape == static
            and tensor.device.type in devices
            and tensor.layout is strided
        )

    def check(tensor: torch.Tensor, sizes: dict[str, int]) -> bool:
        if type(tensor) not in plain or tensor.dtype is not dtype:
            return False
        if tensor.device.type not in devices or tensor.layout is not strided:
            return False
        shape = tensor.shape
        if len(shape) != rank:
            return False
        for axis, size in fixed:
            if shape[axis] != size:
                return False
        return all(_settle(size, shape[axis], sizes) for axis, size in named)

    return check_static if static is not None else check


def _settle(size: DimSize, actual: int, sizes: dict[str, int]) -> bool:
    value, rest = divmod(actual - size.offset, size.factor)
    return not rest and sizes.setdefault(size.dim, value) == value


def explain(
    spec: TensorSpec,
    tensor: Any,
    dims: Mapping[str, Dim],
    sizes: dict[str, tuple[int, str]],
    devices: frozenset[str],
) -> str | None:
    """Say in words why a tensor does not fit; `sizes` carries what earlier inputs settled."""
    if type(tensor) not in _PLAIN:
        return f"a {type(tensor).__name__} was given, expected a plain tensor"
    if tensor.dtype is not torch_dtype(spec.dtype):
        dtype = str(tensor.dtype).removeprefix("torch.")
        return f"dtype {dtype}, expected {spec.dtype}"
    if tensor.device.type not in devices:
        return f"on {tensor.device}, expected on {' or '.join(sorted(devices))}"
    if tensor.layout is not torch.strided:
        return f"layout {tensor.layout}, expected a dense tensor"
    if len(tensor.shape) != len(spec.shape):
        return f"{len(tensor.shape)} dimensions {tuple(tensor.shape)}, expected {len(spec.shape)}"
    for axis, (actual, size) in enumerate(zip(tensor.shape, spec.shape, strict=True)):
        reason = _explain_size(spec.name, axis, actual, size, dims, sizes)
        if reason:
            return f"size {actual} on axis {axis}, {reason}"
    return None


def _explain_size(
    name: str,
    axis: int,
    actual: int,
    size: Any,
    dims: Mapping[str, Dim],
    sizes: dict[str, tuple[int, str]],
) -> str | None:
    if isinstance(size, int):
        return None if actual == size else f"expected {size}"
    value, rest = divmod(actual - size.offset, size.factor)
    dim = dims[size.dim]
    if rest or not dim.admits(value):
        return f"expected {size} with {dim}"
    known, where = sizes.setdefault(size.dim, (value, f"{name!r} axis {axis}"))
    if known != value:
        return f"but {size.dim} is {known} by {where}"
    return None
