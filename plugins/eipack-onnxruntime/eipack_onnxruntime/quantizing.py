"""Weights of matrix products in int8, activations quantised as they come."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import onnx

from eipack.capture.quiet import quiet
from eipack.errors import UnsupportedModel
from eipack.processor import instruction_sets
from eipack_onnxruntime.faults import unsupported

_OPERATORS: Final = ("MatMul", "Gemm", "LSTM")
"""What loses little: convolutions would lose more, and run slower than in float32."""

_QUANTISED: Final = {"MatMulInteger", "DynamicQuantizeLSTM"}


def quantize(source: Path, target: Path) -> None:
    """Write a model whose constant matrices are int8, each column with a scale of its own.

    Raises:
        UnsupportedModel: There is none, or onnxruntime cannot quantise the model.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with unsupported("quantise this program"), quiet(), _without_advice():
        _forget_shapes(source)
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=list(_OPERATORS),
            per_channel=True,
            weight_type=QuantType.QInt8,
            reduce_range=not _adds_exactly(),
            use_external_data_format=True,
        )
        graph = onnx.load(target, load_external_data=False).graph
    if not any(node.op_type in _QUANTISED for node in graph.node):
        raise UnsupportedModel(
            "int8 would change nothing: the model multiplies by no constant matrix; use float32"
        )


def _forget_shapes(path: Path) -> None:
    """Remove noted shapes: onnxruntime 1.24 transposes weights and leaves theirs as was."""
    model = onnx.load(path, load_external_data=False)
    del model.graph.value_info[:]
    path.write_bytes(model.SerializeToString())


def _adds_exactly() -> bool:
    """Tell whether the processor sums products of bytes in 32 bits: older ones cut off at 16."""
    return bool(instruction_sets() & {"avx512_vnni", "avx_vnni", "asimddp"})


@contextmanager
def _without_advice() -> Iterator[None]:
    """Drop what onnxruntime logs through the root logger: that shapes could be inferred first."""

    def drop(_: logging.LogRecord) -> bool:
        return False

    root = logging.getLogger()
    root.addFilter(drop)
    try:
        yield
    finally:
        root.removeFilter(drop)
