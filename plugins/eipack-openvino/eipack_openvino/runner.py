"""A compiled model behind flat tensors of torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, Final

import torch
from torch import Tensor

from eipack.errors import ExecutionFailed, SessionClosed
from eipack.signature import Signature
from eipack_openvino.errors import reason_of
from eipack_openvino.library import openvino

_MOST: Final = 2**24
"""The largest integer that float32 has exactly. OpenVINO computes remainders, sums, maxima and
comparisons of integers in it."""

Taken = Callable[[Tensor], Any]
Given = Callable[[Any], Tensor]


class OpenVinoRunner:
    """Give each call a request of its own, which later calls use again.

    Inputs are read where they lie, and outputs copied once: told to write to memory of the
    caller's, OpenVINO may write to an input that it passes on. A request keeps the inputs of its
    last call until the next one, or until the runner is closed.
    """

    def __init__(self, model: Any, signature: Signature) -> None:
        self._model: Any = model
        self._idle: list[Any] | None = []
        self._take = tuple(_taker(spec.dtype) for spec in signature.inputs)
        self._give = tuple(_giver(spec.dtype) for spec in signature.outputs)
        streams = int(model.get_property("NUM_STREAMS")) or 1
        self.threads = max(1, ceil(int(model.get_property("INFERENCE_NUM_THREADS")) / streams))

    def __call__(self, *inputs: Tensor) -> Sequence[Tensor]:
        """Run once.

        Raises:
            SessionClosed: The runner is closed.
            ExecutionFailed: OpenVINO failed, or would not compute with an integer exactly.
        """
        idle, model = self._idle, self._model
        if idle is None or model is None:
            raise SessionClosed("the session was closed during the call")
        given = [take(tensor) for take, tensor in zip(self._take, inputs, strict=True)]
        try:
            try:
                request = idle.pop()
            except IndexError:
                request = model.create_infer_request()
            for index, tensor in enumerate(given):
                request.set_input_tensor(index, tensor)
            results = request.infer().to_tuple()
        except RuntimeError as error:
            raise ExecutionFailed(f"OpenVINO failed: {reason_of(error)}") from error
        idle.append(request)
        return [give(result) for give, result in zip(self._give, results, strict=True)]

    def close(self) -> None:
        """Let go of the compiled model; calls that run meanwhile finish."""
        self._idle = None
        self._model = None


def _taker(dtype: str) -> Taken:
    """Return what shares the memory of a tensor with OpenVINO."""
    library = openvino()
    share, shape, bfloat16 = library.Tensor, library.Shape, library.Type.bf16

    def take(tensor: Tensor) -> Any:
        return share(tensor.contiguous().numpy(force=True), shared_memory=True)

    def take_bfloat16(tensor: Tensor) -> Any:  # numpy has none
        raw = tensor.contiguous().view(torch.float16).numpy(force=True)
        return share(raw, shape(list(tensor.shape)), bfloat16)

    def take_integers(tensor: Tensor) -> Any:
        array = tensor.contiguous().numpy(force=True)
        if array.size and (array.max() > _MOST or array.min() < -_MOST):
            raise ExecutionFailed(
                f"OpenVINO computes integers exactly up to {_MOST}, and an input has one beyond; "
                "use another engine"
            )
        return share(array, shared_memory=True)

    special = {"bfloat16": take_bfloat16, "int32": take_integers, "int64": take_integers}
    return special.get(dtype, take)


def _giver(dtype: str) -> Given:
    return _bfloat16_of if dtype == "bfloat16" else torch.from_numpy


def _bfloat16_of(array: Any) -> Tensor:
    return torch.from_numpy(array).view(torch.bfloat16)
