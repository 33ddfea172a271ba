"""Tensors on their way into ONNX Runtime and out of it, without a copy.

DLPack carries every dtype that both sides have, bfloat16 too, which numpy lacks. ONNX Runtime
1.24 reads no booleans from it, and gives them as bytes.
"""

from __future__ import annotations

from typing import Any

import torch
from onnxruntime.capi import _pybind_state as ort
from torch import Tensor

HOST = ort.OrtDevice(ort.OrtDevice.cpu(), ort.OrtDevice.default_memory(), 0)


def plain(tensor: Tensor) -> Tensor:
    """Return a tensor whose bytes are its values in order, on the host."""
    if not tensor.is_cpu:
        tensor = tensor.cpu()
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    return tensor.contiguous()


def as_value(tensor: Tensor) -> Any:
    """View a plain tensor as ONNX Runtime's own; a boolean one must outlive the view."""
    if tensor.dtype is torch.bool:
        return ort.OrtValue.ortvalue_from_numpy(tensor.numpy(), HOST)
    return ort.OrtValue.from_dlpack(torch._C._to_dlpack(tensor))
