"""The portable program kinds, and how each leaves its weights to the package.

A codec strips a program to its graph (`save`), binds it again to mapped weights
(`load`), and gives it back whole for tools that know nothing of eipack
(`extract`).
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from eipack.errors import ProgramNotFound

if TYPE_CHECKING:
    from torch import Tensor, device

    from eipack.backend import Program, ProgramReader, ProgramWriter

PORTABLE = ("torchscript", "exported", "onnx")


class Codec(Protocol):
    """What a module of this folder offers for its kind."""

    def save(self, program: Program, writer: ProgramWriter) -> None:
        """Write the graph, and bind its tensors."""

    def load(self, reader: ProgramReader, device: device) -> Any:
        """Return the artifact, its weights bound, on a torch device."""

    def extract(self, reader: ProgramReader, samples: tuple[Tensor, ...], path: Path) -> None:
        """Write a standalone file that holds its own weights."""


def codec(kind: str) -> Codec:
    """Return the codec of a portable kind.

    Raises:
        ProgramNotFound: The kind is none of the portable ones.
    """
    if kind not in PORTABLE:
        raise ProgramNotFound(
            f"no codec for program kind {kind!r}; portable kinds are {', '.join(PORTABLE)}"
        )
    return cast("Codec", import_module(f"eipack.kinds.{kind}"))
