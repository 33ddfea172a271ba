"""Programs that keep the model's own call, as OpenVINO has them: tensors in, tensors out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from attrs import frozen
from torch.utils._pytree import tree_flatten, tree_unflatten

from eipack.errors import UnsupportedModel
from eipack.signature import Signature
from eipack.tree import Tree, flatten


def flat_script(module: torch.jit.ScriptModule, signature: Signature) -> torch.jit.ScriptModule:
    """Wrap a module in one that takes and gives flat tensors in the signature's order.

    Raises:
        UnsupportedModel: An argument is nested in a way that TorchScript cannot write.
    """
    holder = torch.nn.Module()
    holder.inner = module
    names = [f"x{index}" for index in range(len(signature.inputs))]
    args, kwargs = signature.nest([_Leaf(name) for name in names])
    given = [*map(_written, args), *(f"{key}={_written(value)}" for key, value in kwargs.items())]
    taken = "".join(f"{part}, " for part in _parts(signature.output_tree, "y"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        flat: Any = torch.jit.script(holder)
    flat.define(
        f"def forward(self, {', '.join(f'{name}: Tensor' for name in names)}):\n"
        f"    y = self.inner({', '.join(given)})\n"
        f"    return ({taken})\n"
    )
    _without_containers(flat.graph)
    wrapped: torch.jit.ScriptModule = flat
    return wrapped


def _without_containers(graph: Any) -> None:
    """Take what is put into a dict, a list or a tuple and taken out again past it."""
    passes: Any = torch._C
    passes._jit_pass_inline(graph)
    passes._jit_pass_constant_propagation_immutable_types(graph)
    passes._jit_pass_peephole(graph, True)
    passes._jit_pass_lower_all_tuples(graph)
    passes._jit_pass_dce(graph)


@frozen
class _Leaf:
    """The name of a tensor in the text."""

    name: str


def _written(value: Any) -> str:
    """Write an argument as TorchScript."""
    if isinstance(value, _Leaf):
        return value.name
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if type(value) is list:
        return f"[{', '.join(map(_written, value))}]"
    if type(value) is tuple:
        return f"({''.join(f'{_written(item)}, ' for item in value)})"
    if type(value) is dict:
        return f"{{{', '.join(f'{key!r}: {_written(item)}' for key, item in value.items())}}}"
    raise UnsupportedModel(
        f"an argument is nested in a {type(value).__name__}, and a script with such arguments "
        "cannot be run by OpenVINO; export it with method='export' or 'trace'"
    )


def _parts(tree: Tree, text: str) -> Iterator[str]:
    """Write how each tensor of a result is reached."""
    if tree.kind == "tensor":
        yield text
    labels: Sequence[str | int] = tree.keys if tree.kind == "dict" else range(len(tree.children))
    for label, child in zip(labels, tree.children, strict=True):
        yield from _parts(child, f"{text}[{label!r}]")


def input_order(exported: Any, signature: Signature) -> list[int]:
    """Return which input of the signature each tensor that an exported program takes is."""
    args, kwargs = signature.nest(_marks(len(signature.inputs)))
    spec = exported.call_spec.in_spec
    wanted = spec.child(1).context if spec.num_children > 1 else list(kwargs)
    leaves, _ = tree_flatten((args, {name: kwargs[name] for name in wanted}))
    return [int(leaf) for leaf in leaves if isinstance(leaf, torch.Tensor)]


def output_order(exported: Any, signature: Signature) -> list[int]:
    """Return which output of an exported program each output of the signature is."""
    given = exported.graph_signature.user_outputs
    marks = iter(_marks(len(given)))
    # None is an output of the program, but none of OpenVINO's
    leaves = [next(marks) if isinstance(name, str) else name for name in given]
    nested = tree_unflatten(leaves, exported.call_spec.out_spec)
    return [int(leaf) for leaf in flatten(signature.output_tree, nested)]


def _marks(count: int) -> list[torch.Tensor]:
    return [torch.tensor(index, device="cpu") for index in range(count)]
