"""From a torch.export graph to instructions that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch.fx import Node

from eipack.errors import UnsupportedModel

if TYPE_CHECKING:
    from torch.export import ExportedProgram

ARITHMETIC = {"add", "eq", "floordiv", "ge", "getitem", "gt", "le", "lt", "mul", "sub"}
"""Python's own operators, which a graph applies to sizes and to lists of tensors."""


@frozen(eq=False)
class Code:
    """A program of the toy: steps `[result, operator, arguments, keywords]` over named values."""

    inputs: list[str]
    outputs: list[str]
    steps: list[Any]
    tensors: Mapping[str, torch.Tensor]


def assemble(exported: ExportedProgram) -> Code:
    """Translate an exported program; its tensors are taken over, not copied.

    Raises:
        UnsupportedModel: The toy lacks an operator, or a kind of argument.
    """
    signature = exported.graph_signature
    steps = [
        [node.name, _operator(node), _encode(node.args), _encode(node.kwargs)]
        for node in exported.graph.nodes
        if node.op == "call_function"
    ]
    stored = {**exported.state_dict, **exported.constants}
    tensors = {
        spec.arg.name: stored[spec.target].detach()
        for spec in signature.input_specs
        if spec.target is not None
    }
    return Code(list(signature.user_inputs), list(signature.user_outputs), steps, tensors)


def _operator(node: Node) -> str:
    target = node.target
    if isinstance(target, torch._ops.OpOverload) and target.namespace == "aten":
        return str(target)
    name = getattr(target, "__name__", str(target))
    if getattr(target, "__module__", "") == "_operator" and name in ARITHMETIC:
        return f"python.{name}"
    raise UnsupportedModel(f"the toy has no operator {name}", operator=name)


def _encode(value: Any) -> Any:
    """Write what JSON lacks as a dict of one key: a named value, a dtype, a device, …."""
    if isinstance(value, Node):
        return {"value": value.name}
    if isinstance(value, torch.dtype | torch.memory_format | torch.layout):
        return {"torch": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": "cpu"}
    if isinstance(value, Mapping):
        return {"keywords": {key: _encode(item) for key, item in value.items()}}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_encode(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UnsupportedModel(f"the toy has no arguments like {value!r}")
