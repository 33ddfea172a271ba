"""Capture as TorchScript: by trace, by script, or from an exported graph."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import Tensor

from eipack.capture.quiet import quiet
from eipack.capture.reference import Reference, flat_module, translated
from eipack.capture.witness import TELLING, Conversions, DataReads, warned_places
from eipack.errors import CaptureFailed

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_RUNTIME_CHECKS = ("aten::_assert_tensor_metadata", "aten::sym_constrain_range")


@frozen(eq=False)
class Trace:
    """A traced module, and the places where it saw Python decide on sizes or values."""

    module: torch.jit.ScriptModule
    places: tuple[str, ...]


def trace(reference: Reference) -> Trace:
    """Trace the flat module at the sizes of the examples.

    It is traced again under a second witness if the tracer had nothing to warn of. The second
    trace is thrown away, since modules of torch may take another path while they are watched.

    Raises:
        CaptureFailed: Tracing failed.
    """
    caught: list[warnings.WarningMessage] = []
    module = _trace(reference, _leaves(reference), caught)
    if places := warned_places(caught):
        return Trace(module, places)
    leaves = _leaves(reference)
    witness, reads = Conversions(TELLING, caught), DataReads(leaves)
    with witness, reads:
        _trace(reference, leaves, caught)
    return Trace(module, tuple(dict.fromkeys([*witness.places, *reads.places])))


def _leaves(reference: Reference) -> tuple[Tensor, ...]:
    return tuple(leaf.clone() for leaf in reference.examples.leaves)


def _trace(
    reference: Reference, leaves: tuple[Tensor, ...], caught: list[warnings.WarningMessage]
) -> torch.jit.ScriptModule:
    module = flat_module(reference)
    with quiet(), translated("trace"), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("always")
        warnings.showwarning = lambda *args, **_: caught.append(warnings.WarningMessage(*args))
        traced: torch.jit.ScriptModule = torch.jit.trace(  # type: ignore[no-untyped-call]
            module, leaves, check_trace=False
        )
    return traced


def script(reference: Reference) -> torch.jit.ScriptModule:
    """Compile the module's own forward.

    Raises:
        CaptureFailed: TorchScript cannot compile it, or it writes to its inputs.
    """
    if isinstance(reference.module, torch.jit.ScriptModule):
        return reference.module
    if reference.written:
        name = reference.examples.names[min(reference.written)]
        raise CaptureFailed(
            f"the model writes to its input {name!r}, and a script of it would too; copy the "
            "input in the model, or use another method"
        )
    try:
        with quiet(), translated("script"):
            scripted = torch.jit.script(reference.module)
    except CaptureFailed:
        _forget_types(reference.module)
        raise
    if not scripted._c._has_method("forward"):
        raise CaptureFailed(
            "capture by script failed: the model's forward is overloaded; wrap it in a module "
            "of your own",
            method="script",
        )
    return scripted


def _forget_types(module: torch.nn.Module) -> None:
    """Drop half-compiled classes, or the next attempt fails with "Can't redefine method"."""
    store = torch.jit._recursive.concrete_type_store
    for part in module.modules():
        store.type_store.pop(type(part), None)


def from_exported(program: ExportedProgram) -> torch.jit.ScriptModule:
    """Compile the graph of an exported program, whose sizes are symbols and not constants.

    The graph has no Python left in it, so nothing can be hard-wired that torch.export did
    not prove. Checks of metadata are dropped: the signature is enforced outside.

    Raises:
        CaptureFailed: The graph holds an operator that TorchScript lacks.
    """
    with quiet(), translated("export to TorchScript"):
        module = program.module()
        graph = module.graph
        for node in list(graph.nodes):
            _inline(module, node)
        for node in list(graph.nodes):
            _plain(graph, node)
        graph.set_codegen(torch.fx.graph.CodeGen())
        results = graph.output_node().args[0]
        if isinstance(results, tuple | list) and len(results) == 1:
            graph.output_node().args = (results[0],)
        return torch.jit.script(torch.fx.GraphModule(module, graph))


def _inline(module: Any, node: Any) -> None:
    """Replace a wrapper that sets a mode by the part of the graph which it runs.

    Gradients are off in any case, and autocast only where it is switched off anyway.
    """
    name = getattr(node.target, "__name__", "")
    if name == "wrap_with_set_grad_enabled":
        _, part, *args = node.args
    elif name == "wrap_with_autocast" and node.args[2] is False:
        _, _, _, _, part, *args = node.args
    else:
        return
    graph = node.graph
    inner = getattr(module, part.target).graph
    given = dict(zip(inner.find_nodes(op="placeholder"), args, strict=True))
    with graph.inserting_before(node):
        results = graph.graph_copy(inner, given)
    for user in list(node.users):
        user.replace_all_uses_with(results[user.args[1]])
        graph.erase_node(user)
    graph.erase_node(node)


def _plain(graph: Any, node: Any) -> None:
    """Let a node name the operator as TorchScript knows it, or drop it."""
    if _is_runtime_check(node):
        graph.erase_node(node)
    elif isinstance(node.target, torch._ops.HigherOrderOperator):
        raise CaptureFailed(f"TorchScript has no operator {node.target}")
    elif isinstance(node.target, torch._ops.OpOverload):
        node.target = node.target.overloadpacket


def _is_runtime_check(node: Any) -> bool:
    if node.users:
        return False
    if node.op == "call_module":
        return "_guards" in str(node.target)
    name = getattr(getattr(node.target, "_schema", None), "name", "")
    return node.op == "call_function" and bool(name.startswith(_RUNTIME_CHECKS))
