"""Keep values in bfloat16 between layers that are computed in it."""

from __future__ import annotations

from typing import Any, Final

from eipack_cpu.graphs import Editor

FLOAT32: Final = 6
BFLOAT16: Final = 15
"""Dtypes by their numbers in TorchScript."""

_MOVES: Final = frozenset(
    {
        "aten::view",
        "aten::reshape",
        "aten::flatten",
        "aten::unflatten",
        "aten::permute",
        "aten::transpose",
        "aten::squeeze",
        "aten::unsqueeze",
        "aten::select",
        "aten::slice",
        "aten::contiguous",
        "aten::max_pool2d",
        "aten::relu",
    }
)


def stay_narrow(graph: Any) -> None:
    """Move conversions to float32 behind what only moves values, and drop those that cancel."""
    for node in list(graph.nodes()):
        if node.kind() == "aten::to" and _source(node.output(), BFLOAT16) is not None:
            low = _source(next(iter(node.inputs())), FLOAT32)
            if low is not None:
                node.output().replaceAllUsesWith(low)
        elif _moves(node):
            places = range(3) if "attention" in node.kind() else range(1)
            values = list(node.inputs())
            for place in places:
                node.replaceInput(place, _source(values[place], FLOAT32))
            with graph.insert_point_guard(node):
                wide = Editor(graph).cast(node.output(), FLOAT32)
            wide.node().moveAfter(node)
            node.output().replaceAllUsesAfterNodeWith(wide.node(), wide)


def _moves(node: Any) -> bool:
    """Tell whether a node only moves bfloat16 values, or is an attention on them without a mask."""
    values = list(node.inputs())
    if node.kind() == "aten::scaled_dot_product_attention":
        low = all(_source(value, FLOAT32) is not None for value in values[:3])
        return low and bool(values[3].node().mustBeNone())
    if node.kind() not in _MOVES or node.outputsSize() != 1:
        return False
    return _source(values[0], FLOAT32) is not None


def _source(value: Any, dtype: int) -> Any | None:
    """Return what a value was before its conversion to a dtype, if that is what it is."""
    node = value.node()
    if node.kind() != "aten::to" or node.inputsSize() != 5:
        return None
    given, to, *_ = node.inputs()
    return given if to.node().kind() == "prim::Constant" and to.toIValue() == dtype else None
