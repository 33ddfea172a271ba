"""Capture by torch.export, and ONNX made from that."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from attrs import frozen
from torch.export import ExportedProgram

from eipack.capture.dims import Shapes, settle, torch_dims
from eipack.capture.reference import Reference, first_line, flat_module, quiet, translated
from eipack.errors import CaptureFailed, DependencyMissing
from eipack.signature import DimSize


@frozen(eq=False)
class Exported:
    """An exported program, and the shapes with automatic dimensions settled."""

    program: ExportedProgram
    shapes: Shapes


def export_program(reference: Reference, shapes: Shapes) -> Exported:
    """Export the flat module with the declared dynamic shapes.

    Raises:
        CaptureFailed: The model branches on data, specialises a declared dimension, or holds
            something torch.export cannot follow; the message repeats the range torch suggests.
    """
    leaves = tuple(leaf.clone() for leaf in reference.examples.leaves)
    identifiers = reference.examples.identifiers
    with quiet(), translated("export", _explain), torch.no_grad():
        program = torch.export.export(
            flat_module(reference),
            leaves,
            dynamic_shapes=torch_dims(shapes, identifiers) if shapes.dims else None,
            strict=False,
        )
    return Exported(program, achieved(program, shapes, reference.examples.names))


def _explain(error: BaseException) -> str:
    """Reduce torch.export's report to the line that helps."""
    text = str(error)
    fixes = re.search(r"Suggested fixes:\s*(.+?)(?:\n\s*\n|\Z)", text, re.DOTALL)
    reason = re.search(r"^\s*- (.+)$", text, re.MULTILINE)
    line = reason[1].strip()[:200] if reason else first_line(error)
    if fixes:
        suggestions = "; ".join(part.strip() for part in fixes[1].splitlines() if part.strip())
        return f"{line} (torch suggests: {suggestions[:200]})"
    return line


def achieved(program: ExportedProgram, shapes: Shapes, names: Sequence[str]) -> Shapes:
    """Compare what torch.export made dynamic with what was declared.

    Raises:
        CaptureFailed: A declared dimension became fixed, or its range narrower.
    """
    found: dict[tuple[int, int], int | tuple[str, int, int | None]] = {}
    sizes = placeholder_sizes(program)
    for index, shape in enumerate(shapes.inputs):
        for axis, size in enumerate(shape):
            if isinstance(size, DimSize):
                found[index, axis] = _range(program, sizes[index][axis])
    result = settle(shapes, found)
    for index, shape in enumerate(result.inputs):
        for axis, size in enumerate(shape):
            if isinstance(size, DimSize):
                _require(names[index], axis, size, found[index, axis], result)
    return result


def placeholder_sizes(program: ExportedProgram) -> list[Sequence[Any]]:
    wanted = program.graph_signature.user_inputs
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    values = [nodes[name].meta["val"] for name in wanted if isinstance(name, str) and name in nodes]
    return [value.shape for value in values if isinstance(value, torch.Tensor)]


def _range(program: ExportedProgram, size: Any) -> int | tuple[str, int, int | None]:
    if isinstance(size, int):
        return size
    expression = size.node.expr
    bounds = program.range_constraints.get(expression)
    if bounds is None:
        return str(expression), 1, None
    high = int(bounds.upper) if bounds.upper.is_Integer and bounds.upper < 2**31 else None
    return str(expression), int(bounds.lower), high


def _require(
    name: str, axis: int, size: DimSize, found: int | tuple[str, int, int | None], shapes: Shapes
) -> None:
    dim = next(dim for dim in shapes.dims if dim.name == size.dim)
    if isinstance(found, int):
        raise CaptureFailed(
            f"torch.export fixed {name!r} axis {axis} at {found}, declared {dim}; "
            "declare it static or use another method"
        )
    _, low, high = found
    if size.factor != 1 or size.offset:
        return  # the root's own range is checked where the root occurs
    if low > max(dim.min, 2) or (high is not None and (dim.max is None or high < dim.max)):
        raise CaptureFailed(
            f"torch.export narrowed {name!r} axis {axis} to {low}..{high}, declared {dim}; "
            f"declare Dim({dim.name!r}, min={low}, max={high})"
        )


def to_onnx(program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """Translate an exported program to an onnx.ModelProto, unoptimised.

    Raises:
        DependencyMissing: onnx or onnxscript is not installed.
        CaptureFailed: An operator has no translation.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise DependencyMissing(
            f'ONNX programs need {error.name}: pip install "eipack[onnx]"'
        ) from error
    with quiet(), translated("ONNX"), torch.no_grad():
        converted = torch.onnx.export(
            program,
            dynamo=True,
            optimize=False,
            verbose=False,
            input_names=list(inputs),
            output_names=list(outputs),
        )
        if converted is None:
            raise CaptureFailed("torch.onnx gave no program")
        return converted.model_proto


