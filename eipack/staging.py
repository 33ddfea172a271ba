"""A program between capture and package: written as a package would have it, and readable so.

Parity runs on what a user will load (stripped, bound again), so the gate tests
the way into the file and out of it, and not only the capture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import frozen

from eipack.backend import Backend, Program
from eipack.errors import MalformedPackage
from eipack.kinds import codec
from eipack.manifest import Convention, ProgramRecord
from eipack.pool import Pool, on_cpu, storage_bytes
from eipack.signature import Signature

if TYPE_CHECKING:
    from torch import Tensor

_OLDEST_TORCH = "2.11"
_LOWEST_PYTHON = "3.11"
_T = TypeVar("_T")


class _Writer:
    """Implements `ProgramWriter` in memory."""

    def __init__(self) -> None:
        self.members: dict[str, bytes] = {}
        self.tensors: dict[str, Tensor] = {}
        self.attributes: dict[str, str] = {}

    def member(self, name: str, data: bytes) -> None:
        """Add a member."""
        _add(self.members, "member", name, bytes(data))

    def tensor(self, key: str, tensor: Tensor) -> None:
        """Bind a key to a tensor's storage."""
        _add(self.tensors, "key", key, on_cpu(tensor))

    def attribute(self, key: str, value: str) -> None:
        """Note a small text."""
        _add(self.attributes, "attribute", key, value)


def _add(known: dict[str, _T], what: str, name: str, value: _T) -> None:
    if name in known:
        raise MalformedPackage(f"the program writes its {what} {name!r} twice")
    known[name] = value


@frozen(eq=False)
class Staged:
    """A program as it was written; implements `ProgramReader`."""

    program: Program
    members: Mapping[str, bytes]
    attributes: Mapping[str, str]
    _tensors: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The program's kind."""
        return self.program.kind

    @property
    def convention(self) -> Convention:
        """How the program is called."""
        return self.program.convention

    @property
    def signature(self) -> Signature:
        """The signature it was captured under."""
        return self.program.signature

    @property
    def keys(self) -> Iterable[str]:
        """The keys bound."""
        return self._tensors.keys()

    def member(self, name: str) -> bytes:
        """Return a member."""
        return self.members[name]

    def storage(self, key: str) -> Tensor:
        """Return the bytes bound to a key."""
        return storage_bytes(self._tensors[key])

    @property
    def digest(self) -> None:
        """Tell that there is no package yet."""

    def package(self) -> None:
        """Tell that there is no package yet."""

    def commit(self, pool: Pool, program_id: str) -> dict[str, str]:
        """Add the tensors to the pool; return the entry of each key."""
        return {
            key: pool.add(tensor, f"{self.kind}.{number}", user=program_id)
            for number, (key, tensor) in enumerate(self._tensors.items())
        }


def stage(program: Program, backend: Backend | None = None) -> Staged:
    """Write a program to memory, by its backend or as its portable kind is written."""
    writer = _Writer()
    if backend is not None:
        backend.save(program, writer)
    else:
        codec(program.kind).save(program, writer)
    return Staged(program, writer.members, writer.attributes, writer.tensors)


def record(staged: Staged, program_id: str, pool: Pool) -> ProgramRecord:
    """Commit a staged program and describe it.

    `own_bytes` counts its members only and `shared_bytes` nothing: `count_bytes` of the
    assembly completes them when every program is in the pool.
    """
    program = staged.program
    return ProgramRecord(
        id=program_id,
        kind=program.kind,
        method=program.method,
        convention=program.convention,
        members=tuple(f"programs/{program_id}/{name}" for name in staged.members),
        bindings=staged.commit(pool, program_id),
        attributes=dict(staged.attributes),
        shared_bytes=0,
        own_bytes=sum(len(data) for data in staged.members.values()),
        lowest_torch=_lowest_torch(program.kind),
        lowest_python=_LOWEST_PYTHON,
        target=None if program.target is None else str(program.target),
    )


def _lowest_torch(kind: str) -> str | None:
    """Return `major.minor` of the torch that a program needs.

    TorchScript fails aloud where an operator or a version is unknown, so any torch that eipack
    supports may try; of the others torch promises only that later versions read the same.
    """
    if kind == "onnx":
        return None
    if kind == "torchscript":
        return _OLDEST_TORCH
    import torch

    return ".".join(str(torch.__version__).split(".")[:2])
