"""Capture by torch.export, and ONNX made from that."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from attrs import frozen
from torch.export import ExportedProgram

from eipack.capture.dims import Shapes
from eipack.capture.guards import free_range, guards_in, violations
from eipack.capture.quiet import quiet
from eipack.capture.reference import Reference, first_line, flat_module, translated
from eipack.capture.symbols import achieved, torch_dims
from eipack.errors import CaptureFailed, DependencyMissing


@frozen(eq=False)
class Exported:
    """An exported program, and the shapes with automatic dimensions settled."""

    program: ExportedProgram
    shapes: Shapes


def export_program(reference: Reference, shapes: Shapes) -> Exported:
    """Export the flat module with the declared dynamic shapes.

    Raises:
        CaptureFailed: The model branches on data, specialises a declared dimension, or holds
            something torch.export cannot follow; the message names the range that would do.
            `guards` are what it assumed of sizes, `report` is its text.
    """
    # sessions make inputs contiguous too, since the graph holds for such strides only
    layout = torch.contiguous_format
    leaves = tuple(leaf.clone(memory_format=layout) for leaf in reference.examples.leaves)

    def explain(error: BaseException) -> str:
        return _explain(error, reference, shapes)

    with quiet(), translated("export", explain), torch.no_grad():
        program = torch.export.export(
            flat_module(reference),
            leaves,
            dynamic_shapes=torch_dims(shapes, reference.examples.identifiers),
            strict=False,
        )
    return Exported(program, achieved(program, shapes, reference.examples.names))


def _explain(error: BaseException, reference: Reference, shapes: Shapes) -> str:
    """Reduce torch.export's report to the line that helps."""
    text = str(error)
    reason = re.search(r"^\s*- (.+)$", text, re.MULTILINE)
    line = reason[1].strip().split(". ")[0].rstrip(".")[:200] if reason else first_line(error)
    if "data-dependent" in line:
        return f"the model decides in Python on the values of its inputs ({line[:120]})"
    ranges = _free_ranges(text, reference, shapes)
    if ranges:
        return f"{line}; declare {', '.join(ranges)}"
    fixes = re.search(r"Suggested fixes:\s*(.+?)(?:\n\s*\n|\Z)", text, re.DOTALL)
    if fixes:
        suggestions = "; ".join(part.strip() for part in fixes[1].splitlines() if part.strip())
        return f"{line} (torch suggests: {suggestions[:200]})"
    return line


def _free_ranges(text: str, reference: Reference, shapes: Shapes) -> list[str]:
    sample = shapes.sample_sizes(reference.examples)
    guards = guards_in(text)
    found = violations(guards, shapes, reference.examples.identifiers, sample)
    ranges = []
    for dim in shapes.dims if found else ():
        free = free_range(found or (), dim, sample[dim.name])
        if free is not None:
            top = "" if free.max is None else f", max={free.max}"
            ranges.append(f"Dim({dim.name!r}, min={free.min}{top})")
    return ranges


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
