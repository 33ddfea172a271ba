"""What a person types to say where a program runs: `device[+engine][:ordinal]`."""

from __future__ import annotations

import re

from attrs import frozen

from eipack.errors import TargetSyntaxError

_PATTERN = re.compile(r"([a-z][a-z0-9_]*)(?:\+([a-z][a-z0-9_]*))?(?::(0|[1-9][0-9]{0,5}))?")


@frozen
class Target:
    """A device, the engine on it and which one of several.

    `engine=None` is the device's default engine; `ordinal=None` is its first device.
    """

    device: str
    engine: str | None = None
    ordinal: int | None = None

    @classmethod
    def parse(cls, text: str | Target) -> Target:
        """Read `cpu`, `cuda:0`, `cpu+openvino` or `eia+onnxruntime:1`.

        Raises:
            TargetSyntaxError: The text reads otherwise, or numbers the CPU.
        """
        if isinstance(text, Target):
            return text
        match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise TargetSyntaxError(
                f"cannot read target {text!r}; write device[+engine][:ordinal], "
                "as in cpu, cuda:0 or cpu+openvino"
            )
        device, engine, digits = match.groups()
        if device == "cpu" and digits is not None:
            raise TargetSyntaxError(f"target {text!r}: there is one cpu; write 'cpu'")
        return cls(device, engine, int(digits) if digits is not None else None)

    @property
    def entry_point(self) -> str:
        """Name the entry point of the backend that serves this target."""
        return self.device if self.engine is None else f"{self.device}.{self.engine}"

    def __str__(self) -> str:
        engine = "" if self.engine is None else f"+{self.engine}"
        return self.device + engine + ("" if self.ordinal is None else f":{self.ordinal}")
