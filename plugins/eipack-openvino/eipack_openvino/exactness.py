"""Where OpenVINO computes otherwise than torch: put right in the model, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from eipack.errors import UnsupportedModel
from eipack.signature import Signature
from eipack_openvino.library import element_types, openvino

_MOVES: Final = frozenset(
    {
        "Broadcast",
        "Concat",
        "Constant",
        "Convert",
        "ConvertLike",
        "Gather",
        "GatherElements",
        "GatherND",
        "If",
        "Loop",
        "Pad",
        "Parameter",
        "Reshape",
        "Result",
        "Select",
        "Slice",
        "Split",
        "Squeeze",
        "StridedSlice",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "VariadicSplit",
    }
)
"""What passes values on as they are, whatever their type."""


def made_exact(model: Any, signature: Signature, kind: str) -> Any:
    """Let a model of a kind of program give what torch would give, and return it.

    Raises:
        UnsupportedModel: It computes with integers of 8 or 16 bits, whose overflow differs.
    """
    for node in list(_nodes(model)):
        _require_wide(node)
        # an ONNX program divides towards zero, and puts it right itself
        if kind != "onnx" and _divides_downwards(node) and _depends_on_values(node):
            _divide_exactly(node)
    _give_the_dtypes(model, signature)
    return model


def _nodes(model: Any) -> Iterator[Any]:
    """Yield the operations of a model, and of the bodies of its loops and branches."""
    for node in model.get_ordered_ops():
        yield node
        for body in _bodies(node):
            yield from _nodes(body)


def _bodies(node: Any) -> list[Any]:
    kind = node.get_type_name()
    if kind == "If":
        return [node.get_function(branch) for branch in range(2)]
    return [node.get_function()] if kind == "Loop" else []


def _require_wide(node: Any) -> None:
    if node.get_type_name() in _MOVES:
        return
    for output in node.outputs():
        kind = output.get_element_type()
        if kind.is_integral_number() and kind.bitwidth in (8, 16):
            name = f"{'int' if kind.is_signed() else 'uint'}{kind.bitwidth}"
            raise UnsupportedModel(
                f"OpenVINO's {node.get_type_name()} of {name} overflows otherwise than torch's; "
                "use another engine"
            )


def _divides_downwards(node: Any) -> bool:
    """Tell whether it is a floor division of integers, which the processor's plugin truncates."""
    return bool(
        node.get_type_name() == "Divide"
        and node.get_element_type().is_integral_number()
        and node.get_attributes().get("m_pythondiv")
    )


def _depends_on_values(node: Any) -> bool:
    """Tell whether values reach it, and not sizes alone, which are never negative."""
    seen: set[str] = set()
    waiting = [node]
    while waiting:
        current = waiting.pop()
        if current.get_name() in seen or current.get_type_name() == "ShapeOf":
            continue
        seen.add(current.get_name())
        if current.get_type_name() == "Parameter":
            return True
        waiting += [given.get_source_output().get_node() for given in current.inputs()]
    return False


def _divide_exactly(node: Any) -> None:
    """Take the remainder away first: what is left divides without one."""
    operators = openvino().opset13
    above, below = (given.get_source_output() for given in node.inputs())
    whole = operators.subtract(above, operators.floor_mod(above, below))
    quotient = operators.divide(whole, below)
    node.output(0).replace(quotient.output(0))


def _give_the_dtypes(model: Any, signature: Signature) -> None:
    """Convert outputs that OpenVINO gives in another type, as sums that torch widens."""
    for result, spec in zip(model.get_results(), signature.outputs, strict=True):
        wanted = element_types()[spec.dtype]
        if result.get_element_type() != wanted:
            source = result.input(0).get_source_output()
            result.input(0).replace_source_output(
                openvino().opset13.convert(source, wanted.to_string()).output(0)
            )
    model.validate_nodes_and_infer_types()
