"""The interpreter that runs the toy's instructions."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eipack.errors import SessionClosed
from eipack_toy.assembler import ARITHMETIC, Code


class Machine:
    """A loaded program; every call has values of its own, so threads share nothing."""

    def __init__(self, code: Code) -> None:
        self._steps = [
            (name, _function(op), args, keywords) for name, op, args, keywords in code.steps
        ]
        self._inputs, self._outputs = code.inputs, code.outputs
        self._tensors: dict[str, Tensor] | None = dict(code.tensors)
        self._weights = {t.untyped_storage().data_ptr() for t in code.tensors.values()}

    def __call__(self, *inputs: Tensor) -> Sequence[Tensor]:
        """Run every step once."""
        if self._tensors is None:
            raise SessionClosed("the session was closed during the call")
        values: dict[str, Any] = {
            **self._tensors,
            **dict(zip(self._inputs, inputs, strict=True)),
        }
        for name, function, args, keywords in self._steps:
            values[name] = function(*_decode(args, values), **_decode(keywords, values))
        return [self._given(values[name]) for name in self._outputs]

    def _given(self, output: Tensor) -> Tensor:
        """Copy an output that lies in the weights, since the caller may write to it."""
        shared = output.untyped_storage().data_ptr() in self._weights
        return output.clone() if shared else output

    def close(self) -> None:
        """Let go of the weights."""
        self._tensors = None


def _function(name: str) -> Any:
    space, _, rest = name.partition(".")
    if space == "python" and rest in ARITHMETIC:
        return getattr(operator, rest)
    operation, _, overload = rest.partition(".")
    return getattr(getattr(torch.ops.aten, operation), overload)


def _decode(value: Any, values: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_decode(item, values) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "value":
        return values[content]
    if kind == "keywords":
        return {key: _decode(item, values) for key, item in content.items()}
    return torch.device(content) if kind == "device" else getattr(torch, content)
