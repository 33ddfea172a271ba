"""TorchScript on the CPU without the profiling executor.

By default torch runs a new program twice to profile it and then compiles it again; on the
CPU, where nothing is fused, that buys nothing and makes the first calls of a transformer 3 to
5 times slower. Here the graph is cleaned once, after loading, and then interpreted as
it is: answers are the same bits from the first call on (`benchmarks/rebound.py` compares the
steady state).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def interpreted(module: torch.jit.ScriptModule) -> Callable[..., Any]:
    """Clean the module's graph in place and return its forward, to be run as it stands."""
    graph = module.graph
    passes: Any = torch._C
    passes._jit_pass_inline(graph)
    # tensors are not folded: one that is an output would be the same memory in every call
    passes._jit_pass_constant_propagation_immutable_types(graph)
    passes._jit_pass_cse(graph)
    passes._jit_pass_dce(graph)
    passes._jit_pass_peephole(graph, False)
    return unprofiled(module.forward)


def unprofiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Run a TorchScript function as it stands, and leave the executor to others as it was."""
    optimizes = torch._C._get_graph_executor_optimize
    optimize = torch._C._set_graph_executor_optimize

    def run(*inputs: Any, **kwargs: Any) -> Any:
        before = optimizes()  # the flag is the thread's, and what the caller set stays
        optimize(False)
        try:
            return forward(*inputs, **kwargs)
        finally:
            optimize(before)

    return run
