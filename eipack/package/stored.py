"""What a program is loaded from: verified weights, and the members that belong to it."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec
from attrs import field, frozen

from eipack.archive import Archive, digest_bytes
from eipack.manifest import WEIGHTS, Convention, Manifest, ProgramRecord
from eipack.package.verified import copied_weights, read_member, verify_weights, weights_layout
from eipack.signature import Signature

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.package.package import Package


class Weights:
    """The weights entries of an open package as torch storages.

    Mapped copy-on-write where only this user and root can write to the file, else copied
    to private memory first; verified in either case before the first storage is given.
    """

    def __init__(self, archive: Archive, manifest: Manifest) -> None:
        self.mapped = archive.owner_is_safe()
        self._memory: mmap.mmap
        if self.mapped:
            verify_weights(archive, manifest)
            self._memory, start = archive.mapping(), archive.members[WEIGHTS].data_offset
        else:
            self._memory, start = copied_weights(archive, manifest), 0
        offsets = weights_layout(manifest).offsets
        self._places = {
            entry.name: (start + offset, entry.nbytes)
            for entry, offset in zip(manifest.entries, offsets, strict=True)
        }

    def storage(self, entry: str) -> Tensor:
        """Return an entry as uint8, 1-D, in a storage of its own that begins with it."""
        import torch

        offset, size = self._places[entry]
        if not size:
            return torch.empty(0, dtype=torch.uint8, device="cpu")
        return torch.frombuffer(self._memory, dtype=torch.uint8, offset=offset, count=size)


@frozen
class StoredProgram:
    """A program of an open package; implements `ProgramReader`."""

    record: ProgramRecord
    manifest: Manifest
    weights: Weights
    _archive: Archive = field(repr=False)

    @property
    def kind(self) -> str:
        """The program's kind."""
        return self.record.kind

    @property
    def convention(self) -> Convention:
        """How the program is called."""
        return self.record.convention

    @property
    def signature(self) -> Signature:
        """The package's signature."""
        return self.manifest.signature

    @property
    def digest(self) -> str:
        """A name for the signature, the record, and every byte that it stands for."""
        members = {member.name: member.digest for member in self.manifest.members}
        entries = {entry.name: entry.digest for entry in self.manifest.entries}
        stands_for = (
            self.signature,
            self.record,
            [members[name] for name in self.record.members],
            [entries[name] for name in self.record.bindings.values()],
        )
        return digest_bytes(msgspec.json.encode(stands_for))

    @property
    def attributes(self) -> Mapping[str, str]:
        """What the backend noted when it saved the program."""
        return self.record.attributes

    @property
    def keys(self) -> Iterable[str]:
        """The keys bound to weights."""
        return self.record.bindings.keys()

    def package(self) -> tuple[Package, str]:
        """Open the package once more, on the same open file, and name the program in it."""
        from eipack.package.package import Package

        return Package(self._archive.duplicate(), self.manifest), self.record.id

    def member(self, name: str) -> bytes:
        """Return a member's verified bytes."""
        full = f"programs/{self.record.id}/{name}"
        return read_member(self._archive, self.manifest, full)

    def storage(self, key: str) -> Tensor:
        """Return the bytes bound to a key."""
        return self.weights.storage(self.record.bindings[key])
