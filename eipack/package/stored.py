"""The bytes of an open package: verified before anything is made of them."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from attrs import field, frozen

from eipack.archive import (
    Archive,
    Expected,
    Slot,
    TensorFile,
    digest_bytes,
    digest_of_chunks,
    lay_out,
    tensor_digests,
    verify_tensors,
)
from eipack.errors import DigestMismatch, MalformedPackage
from eipack.manifest import WEIGHTS, Convention, Entry, Manifest, ProgramRecord
from eipack.signature import Signature

if TYPE_CHECKING:
    from torch import Tensor


def weights_layout(entries: Iterable[Entry]) -> TensorFile:
    """Lay the weights file out as the manifest's entries say."""
    return lay_out(Slot(e.name, e.dtype, e.shape, e.nbytes) for e in entries)


def verified_member(archive: Archive, manifest: Manifest, name: str) -> bytes:
    """Read a member into private memory and compare its digest.

    Raises:
        DigestMismatch: The bytes differ from the manifest's digest.
        MalformedPackage: There is no such member.
    """
    record = next((record for record in manifest.members if record.name == name), None)
    if record is None or record.digest is None:
        raise MalformedPackage(f"{archive.path}: the manifest gives no digest of {name!r}")
    data = archive.read(name)
    if digest_bytes(data) != record.digest:
        raise DigestMismatch(f"{archive.path}: {name!r} differs from its digest", name=name)
    return data


def check_members(archive: Archive, manifest: Manifest) -> None:
    """Compare the archive's members with those that the manifest lists.

    Raises:
        MalformedPackage: A member is missing, unlisted, or of another size or CRC.
    """
    listed = [(record.name, record.size, record.crc32) for record in manifest.members]
    there = [
        (placed.member.name, placed.member.size, placed.member.crc32)
        for name, placed in archive.members.items()
        if name != "manifest.json" and not name.startswith("signing/")
    ]
    if listed != there:
        differing = sorted({name for name, *_ in set(listed) ^ set(there)})
        name = differing[0] if differing else "the order of members"
        raise MalformedPackage(f"{archive.path}: {name!r} is not as the manifest lists it")


def verify_content(archive: Archive, manifest: Manifest) -> None:
    """Hash every member and tensor and compare with the manifest.

    Raises:
        DigestMismatch: Something differs.
        MalformedPackage: The weights file is not laid out as its entries say.
    """
    for record in manifest.members:
        if record.name != WEIGHTS:
            verified_member(archive, manifest, record.name)
    verify_weights(archive, manifest)


def verify_weights(archive: Archive, manifest: Manifest) -> None:
    """Hash every weights entry on several threads, and check header and gaps."""
    layout = weights_layout(manifest.entries)
    for entry in manifest.entries:
        if digest_of_chunks(entry.chunks) != entry.digest:
            raise DigestMismatch(f"{archive.path}: chunks of {entry.name!r} contradict its digest")
    placed = archive.members[WEIGHTS]
    start = placed.data_offset
    header = memoryview(bytearray(len(layout.header)))
    if placed.member.size != layout.total_size:
        raise MalformedPackage(f"{archive.path}: {WEIGHTS} has another size than its entries")
    archive.pread_into(start, header)
    if header != layout.header:
        raise DigestMismatch(f"{archive.path}: the header of {WEIGHTS} differs", name=WEIGHTS)
    verify_tensors(
        archive,
        [
            Expected(entry.name, start + offset, entry.nbytes, entry.chunks)
            for entry, offset in zip(manifest.entries, layout.offsets, strict=True)
        ],
        zeros=[(start + offset, size) for offset, size in layout.gaps],
    )


class Weights:
    """The weights entries of an open package as torch storages.

    Mapped copy-on-write where only this user and root can write to the file, else copied
    to private memory first; verified in either case before the first storage is given.
    """

    def __init__(self, archive: Archive, manifest: Manifest) -> None:
        self.mapped = archive.owner_is_safe()
        layout = weights_layout(manifest.entries)
        start = archive.members[WEIGHTS].data_offset
        self._sizes = {entry.name: entry.nbytes for entry in manifest.entries}
        self._offsets = dict(zip(self._sizes, layout.offsets, strict=True))
        if self.mapped:
            verify_weights(archive, manifest)
            self._memory: mmap.mmap = archive.mapping()
            self._start = start
        else:
            self._memory, self._start = _copied(archive, start, layout.total_size), 0
            _verify_memory(archive.path, self._memory, manifest, layout)

    def storage(self, entry: str) -> Tensor:
        """Return an entry as uint8, 1-D, in a storage of its own that begins with it."""
        import torch

        if not self._sizes[entry]:
            return torch.empty(0, dtype=torch.uint8)
        return torch.frombuffer(
            self._memory,
            dtype=torch.uint8,
            offset=self._start + self._offsets[entry],
            count=self._sizes[entry],
        )


def _copied(archive: Archive, start: int, size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, max(size, 1))
    archive.pread_into(start, memoryview(memory)[:size])
    return memory


def _verify_memory(path: str, memory: mmap.mmap, manifest: Manifest, layout: TensorFile) -> None:
    view = memoryview(memory)
    if view[: len(layout.header)] != layout.header or any(
        any(view[start : start + size]) for start, size in layout.gaps
    ):
        raise DigestMismatch(f"{path}: the header or padding of {WEIGHTS} differs", name=WEIGHTS)
    pairs = list(zip(manifest.entries, layout.offsets, strict=True))
    digests = tensor_digests([view[offset : offset + e.nbytes] for e, offset in pairs])
    for (entry, _), found in zip(pairs, digests, strict=True):
        if found.digest != entry.digest or found.chunks != entry.chunks:
            raise DigestMismatch(f"{path}: {entry.name!r} differs from its digest", name=entry.name)


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
    def attributes(self) -> Mapping[str, str]:
        """What the backend noted when it saved the program."""
        return self.record.attributes

    @property
    def keys(self) -> Iterable[str]:
        """The keys bound to weights."""
        return self.record.bindings.keys()

    def member(self, name: str) -> bytes:
        """Return a member's verified bytes."""
        full = f"programs/{self.record.id}/{name}"
        return verified_member(self._archive, self.manifest, full)

    def storage(self, key: str) -> Tensor:
        """Return the bytes bound to a key."""
        return self.weights.storage(self.record.bindings[key])
