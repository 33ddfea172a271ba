"""Capture as TorchScript: by trace, by script, or from an exported graph."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from eipack.capture.reference import Reference, flat_module, quiet, translated
from eipack.errors import CaptureFailed, TracedBranch

_RUNTIME_CHECKS = ("aten::_assert_tensor_metadata", "aten::sym_constrain_range")


def trace(reference: Reference, *, allow_branches: bool) -> torch.jit.ScriptModule:
    """Trace the flat module.

    Raises:
        TracedBranch: The tracer warned that a value or size of the examples is hard-wired.
        CaptureFailed: Tracing failed.
    """
    with warnings.catch_warnings(record=True) as caught, translated("trace"), torch.no_grad():
        warnings.simplefilter("always")
        leaves = tuple(leaf.clone() for leaf in reference.examples.leaves)
        module = torch.jit.trace(flat_module(reference), leaves, check_trace=False)
    found = [w for w in caught if issubclass(w.category, torch.jit.TracerWarning)]
    if found and not allow_branches:
        places = "; ".join(dict.fromkeys(_place(warning) for warning in found[:3]))
        raise TracedBranch(
            f"the trace would hard-wire what it saw of the example inputs ({places}); use "
            "method='export' or 'script', or pass allow_traced_branches=True to package it "
            "for the tested sizes only",
            places=[_place(warning) for warning in found],
        )
    module.branches_seen = bool(found)
    return module


def _place(warning: warnings.WarningMessage) -> str:
    text = str(warning.message)
    what = text.split(" might cause", 1)[0] if " might cause" in text else text.split(".", 1)[0]
    return f"{Path(warning.filename).name}:{warning.lineno}: {what[:120]}"


def script(reference: Reference) -> torch.jit.ScriptModule:
    """Compile the module's own forward.

    Raises:
        CaptureFailed: TorchScript cannot compile it.
    """
    if isinstance(reference.module, torch.jit.ScriptModule):
        return reference.module
    with quiet(), translated("script"):
        return torch.jit.script(reference.module)


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
            if _is_runtime_check(node):
                graph.erase_node(node)
            elif isinstance(node.target, torch._ops.HigherOrderOperator):
                raise CaptureFailed(f"TorchScript has no operator {node.target}")
            elif isinstance(node.target, torch._ops.OpOverload):
                node.target = node.target.overloadpacket
        graph.set_codegen(torch.fx.graph.CodeGen())
        results = graph.output_node().args[0]
        if isinstance(results, tuple | list) and len(results) == 1:
            graph.output_node().args = (results[0],)
        return torch.jit.script(torch.fx.GraphModule(module, graph))


def _is_runtime_check(node: Any) -> bool:
    if node.users:
        return False
    if node.op == "call_module":
        return "_guards" in str(node.target)
    name = getattr(getattr(node.target, "_schema", None), "name", "")
    return node.op == "call_function" and name.startswith(_RUNTIME_CHECKS)
