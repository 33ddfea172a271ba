"""The `cpu+openvino` target: OpenVINO on the host's processor.

Float32 programs are computed in float32 unless a lower precision is asked for. What the
conversion of a program gives is kept per user, so that the next load need not convert again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eipack.backend import Backend, Device, LoadOptions, ProgramReader
from eipack.processor import host
from eipack.target import Target
from eipack_openvino.settings import ENGINE_OPTIONS

if TYPE_CHECKING:
    from eipack_openvino.runner import OpenVinoRunner


class OpenVinoBackend(Backend):
    """Serve `cpu+openvino`."""

    device = "cpu"
    engine = "openvino"
    # all three run alike; this is the order in which they convert quickest
    kinds = ("torchscript", "exported", "onnx")
    options = frozenset({"threads"})
    precisions = ("float32", "bfloat16", "float16")
    engine_options = ENGINE_OPTIONS

    def devices(self) -> Sequence[Device]:
        """Return the host's processor."""
        return [host("openvino")]

    def load(self, reader: ProgramReader, target: Target, options: LoadOptions) -> OpenVinoRunner:
        """Convert the program, or take what an earlier load kept, and compile it.

        Raises:
            DeviceNotFound: The target's ordinal is not there.
            UnsupportedModel: OpenVINO lacks an operator or a dtype of the program.
            OptionRefused: The processor lacks the precision, or an option has a wrong value.
            ExecutionFailed: This process was forked from one that had used OpenVINO.
        """
        from eipack_openvino.library import compiled
        from eipack_openvino.model import model_of
        from eipack_openvino.runner import OpenVinoRunner
        from eipack_openvino.settings import properties

        self.find(target)
        wanted = properties(options)
        model = compiled(model_of(reader), wanted)
        return OpenVinoRunner(model, reader.signature)
