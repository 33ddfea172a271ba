"""A session of ONNX Runtime as a runner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from eipack.errors import SessionClosed
from eipack.signature import Signature
from eipack_onnxruntime.values import as_value, plain


class OrtRunner:
    """Hold a session until it is closed; outputs are its own memory, handed to the caller.

    `threads` is the size of the session's pool, None where it computes elsewhere. With
    `outputs_on` outputs are copied to that device.
    """

    def __init__(
        self,
        session: Any,
        signature: Signature,
        threads: int | None = None,
        outputs_on: torch.device | None = None,
    ) -> None:
        # the wrapper in Python checks names on each call and hides the way to DLPack
        self._session: Any = session._sess
        self._inputs = tuple(item.name for item in session.get_inputs())
        self._outputs = [item.name for item in session.get_outputs()]
        self._booleans = [n for n, spec in enumerate(signature.outputs) if spec.dtype == "bool"]
        self._outputs_on = outputs_on
        self.threads = threads

    def __call__(self, *inputs: Tensor) -> Tensor | Sequence[Tensor]:
        """Run the program."""
        session = self._session
        if session is None:
            raise SessionClosed("the session was closed during the call")
        held = [plain(tensor) for tensor in inputs]
        feed = dict(zip(self._inputs, map(as_value, held), strict=True))
        values = session.run_with_ort_values(feed, self._outputs, None)
        outputs: list[Tensor] = values.to_dlpacks(from_dlpack)
        for index in self._booleans:
            outputs[index] = outputs[index].view(torch.bool)
        if self._outputs_on is not None:
            outputs = [output.to(self._outputs_on) for output in outputs]
        return outputs

    def close(self) -> None:
        """Drop the session, its threads and its memory; calls that run keep them until they end."""
        self._session = None
