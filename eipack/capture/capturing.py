"""Each way to capture one model, taken at most once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eipack.backend import Program
from eipack.capture.dims import Shapes
from eipack.capture.examples import distinct
from eipack.capture.exported import Exported, export_program, to_onnx
from eipack.capture.reference import Reference
from eipack.capture.torchscript import Trace, from_exported, script, trace
from eipack.errors import EipackError, MethodConflict
from eipack.signature import Signature

Report = Callable[[str], None]


class Captures:
    """What torch made of a model; a capture that failed once fails again without being tried."""

    def __init__(self, reference: Reference, shapes: Shapes, report: Report) -> None:
        self._reference = reference
        self._shapes = shapes
        self._report = report
        self._made: dict[str, Any] = {}

    def _once(self, what: str, make: Callable[[], Any]) -> Any:
        if what not in self._made:
            self._report(f"capturing {what}")
            try:
                self._made[what] = make()
            except EipackError as error:
                self._made[what] = error
        if isinstance(self._made[what], EipackError):
            raise self._made[what]
        return self._made[what]

    def exported(self) -> Exported:
        """Return the program of torch.export.

        Raises:
            CaptureFailed: There is none.
        """
        if self._reference.origin == "exported":
            return Exported(self._reference.artifact, self._shapes)
        exported: Exported = self._once(
            "by export", lambda: export_program(self._reference, self._shapes)
        )
        return exported

    def trace(self) -> Trace:
        """Return the trace, whatever it saw.

        Raises:
            CaptureFailed: Tracing failed.
        """
        traced: Trace = self._once("by trace", lambda: trace(self._reference))
        return traced

    def program(self, kind: str, method: str, signature: Signature) -> Program:
        """Return the program of a kind as a method gives it.

        Raises:
            CaptureError: It cannot.
        """
        if method == "trace":
            return Program(kind, self.trace().module, signature, method)
        if method == "script":
            module = self._once("by script", lambda: script(self._reference))
            return Program(kind, module, signature, method, "native")
        exported = self.exported().program
        native = self._reference.origin == "exported"
        if kind == "exported":
            return Program(kind, exported, signature, method, "native" if native else "flat")
        if kind == "torchscript":
            if native:
                raise MethodConflict("an exported program stays one; it cannot be scripted")
            module = self._once("torchscript from export", lambda: from_exported(exported))
            return Program(kind, module, signature, method)
        names = self._reference.examples.identifiers
        # one name for an input and an output would be one value to ONNX
        wanted = (f"output_{s.name}" if s.name in names else s.name for s in signature.outputs)
        outputs = distinct([*names, *wanted])[len(names) :]
        model = self._once("onnx from export", lambda: to_onnx(exported, names, outputs))
        return Program(kind, model, signature, method)
