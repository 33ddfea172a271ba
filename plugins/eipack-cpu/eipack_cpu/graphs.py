"""TorchScript graphs as they are read and edited here: frozen, pure where possible, measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from eipack.interpreter import unprofiled

C: Final[Any] = torch._C
TENSOR: Final = C.TensorType.get()
SCALARS: Final = C.ListType(C.OptionalType(C.NumberType.get()))


def frozen_module(module: torch.jit.ScriptModule) -> Any:
    """Return a copy whose weights are constants of its graph, batch norms folded, writes undone."""
    module.eval()
    frozen = C._freeze_module(module._c, [], True, False)
    graph = frozen._get_method("forward").graph
    C._jit_pass_inline(graph)
    C._jit_pass_remove_mutation(graph)
    C._jit_pass_optimize_frozen_graph(graph, True)
    C._jit_pass_cse(graph)
    C._jit_pass_peephole(graph, False)
    return torch.jit._recursive.wrap_cpp_module(frozen)  # type: ignore[no-untyped-call]


def every_node(block: Any) -> Iterator[Any]:
    """Give each node of a block and of the blocks within."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from every_node(inner)


def constant_tensor(value: Any) -> Tensor | None:
    """Return a constant tensor that a value is, if it is one."""
    if value.node().kind() != "prim::Constant" or value.type().kind() != "TensorType":
        return None
    found = value.toIValue()
    return found if isinstance(found, Tensor) else None


def constant_ids(graph: Any) -> frozenset[int]:
    """Return the addresses of the storages of a graph's constants."""
    found = (
        constant_tensor(value)
        for node in every_node(graph)
        if node.kind() == "prim::Constant"
        for value in node.outputs()
    )
    return frozenset(
        tensor.untyped_storage().data_ptr()
        for tensor in found
        if tensor is not None and tensor.layout is torch.strided
    )


def only_user(value: Any) -> Any | None:
    """Return the node that alone uses a value, and uses it once."""
    uses = value.uses()
    return uses[0].user if len(uses) == 1 else None


class Editor:
    """Insert nodes before a place of a graph."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    def constant(self, value: Any) -> Any:
        """Insert a constant at the insert point."""
        if not isinstance(value, Tensor):
            return self.graph.insertConstant(value)
        made = self.graph.create("prim::Constant", [], 1)  # packed tensors go in no other way
        made.t_("value", value.detach())
        made.output().setType(TENSOR)
        return self.graph.insertNode(made).output()

    def scalars(self, values: Sequence[float] = ()) -> Any:
        """Insert a list of optional scalars, as pointwise operators take them."""
        made = self.graph.create("prim::ListConstruct", [self.constant(v) for v in values], 1)
        made.output().setType(SCALARS)
        return self.graph.insertNode(made).output()

    def integers(self) -> Any:
        """Insert an empty list of integers."""
        made = self.graph.create("prim::ListConstruct", [], 1)
        made.output().setType(C.ListType.ofInts())
        return self.graph.insertNode(made).output()

    def tensors(self, values: Sequence[Any]) -> Any:
        """Insert a list of tensors."""
        made = self.graph.create("prim::ListConstruct", list(values), 1)
        made.output().setType(C.ListType.ofTensors())
        return self.graph.insertNode(made).output()

    def call(self, kind: str, arguments: Iterable[Any]) -> Any:
        """Insert an operator with one tensor result; return that."""
        return self.calls(kind, arguments, 1)[0]

    def calls(self, kind: str, arguments: Iterable[Any], count: int) -> list[Any]:
        """Insert an operator with several tensor results; return them."""
        made = self.graph.create(kind, list(arguments), count)
        for output in made.outputs():
            output.setType(TENSOR)
        return list(self.graph.insertNode(made).outputs())

    def cast(self, value: Any, dtype: int) -> Any:
        """Insert a conversion to a dtype, by its number in TorchScript."""
        no, nothing = self.constant(False), self.constant(None)
        return self.call("aten::to", [value, self.constant(dtype), no, no, nothing])


def sizes_of(graph: Any, values: Sequence[Any], inputs: Sequence[Tensor]) -> dict[int, torch.Size]:
    """Run a graph on inputs and return the size of each value by its number, those that have one.

    Nothing is known where the graph does not run on them.
    """
    before = len(list(graph.outputs()))
    for value in values:
        graph.registerOutput(value)
    probe = graph.copy()
    for place in reversed(range(before, before + len(values))):
        graph.eraseOutput(place)
    probe.eraseInput(0)  # the module, of which a frozen graph uses nothing
    for _ in range(before):
        probe.eraseOutput(0)
    probe.makeMultiOutputIntoTuple()
    run = unprofiled(C._create_function_from_graph("forward", probe))
    try:
        with torch.inference_mode():
            found = run(*inputs)
    except Exception:  # noqa: BLE001 - whatever the model makes of zeros, it runs as it is
        return {}
    return {value.unique(): one.shape for value, one in zip(values, found, strict=True)}
