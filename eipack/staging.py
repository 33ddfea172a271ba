"""A program between capture and package: written as a package would have it, and readable so.

Parity runs on what a user will load (stripped, bound again), so the gate tests
the way into the file and out of it, and not only the capture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from eipack.backend import Backend, Program
from eipack.errors import MalformedPackage
from eipack.kinds import PORTABLE, codec
from eipack.manifest import Convention, ProgramRecord
from eipack.pool import Pool, on_cpu, storage_bytes
from eipack.signature import Signature

if TYPE_CHECKING:
    from torch import Tensor


class Staged:
    """Implements `ProgramWriter` while it is filled and `ProgramReader` afterwards."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.members: dict[str, bytes] = {}
        self._attributes: dict[str, str] = {}
        self._tensors: dict[str, Tensor] = {}

    def member(self, name: str, data: bytes | None = None) -> bytes:
        """Add a member, or return one."""
        if data is not None:
            if name in self.members:
                raise MalformedPackage(f"program member {name!r} is written twice")
            self.members[name] = bytes(data)
        return self.members[name]

    def tensor(self, key: str, tensor: Tensor) -> None:
        """Bind a key to a tensor's storage."""
        self._tensors[key] = on_cpu(tensor)

    def attribute(self, key: str, value: str) -> None:
        """Note a small text."""
        self._attributes[key] = value

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
    def attributes(self) -> Mapping[str, str]:
        """The texts noted."""
        return self._attributes

    @property
    def keys(self) -> Iterable[str]:
        """The keys bound."""
        return self._tensors.keys()

    def storage(self, key: str) -> Tensor:
        """Return the bytes bound to a key."""
        return storage_bytes(self._tensors[key])

    def commit(self, pool: Pool, program_id: str) -> dict[str, str]:
        """Add the tensors to the pool; return the entry of each key."""
        bindings = {}
        for number, (key, tensor) in enumerate(self._tensors.items()):
            bindings[key] = pool.add(tensor, f"{self.kind}.{number}", user=program_id)
        return bindings


def stage(program: Program, backend: Backend | None = None) -> Staged:
    """Write a program to memory, by its backend or as its portable kind is written."""
    staged = Staged(program)
    if backend is not None:
        backend.save(program, staged)
    else:
        codec(program.kind).save(program, staged)
    return staged


def record(staged: Staged, program_id: str, pool: Pool) -> ProgramRecord:
    """Commit a staged program and describe it; byte counts are filled in by `count_bytes`."""
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
        lowest_torch=_LOWEST_TORCH,
        lowest_python="3.11",
        target=None if program.target is None else str(program.target),
    )


_LOWEST_TORCH = "2.11"


def is_portable(kind: str) -> bool:
    """Tell whether any backend may take a program of this kind."""
    return kind in PORTABLE
