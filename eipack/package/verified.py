"""Holding the bytes of a package to the digests of its manifest; no code of it runs."""

from __future__ import annotations

import mmap

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
from eipack.manifest import MANIFEST, WEIGHTS, Manifest, MemberRecord

SIGNING_PREFIX = "signing/"
_MANIFEST_LIMIT = 64 << 20
_SIGNING_LIMIT = 64 << 10
_SIGNINGS = 64


def weights_layout(manifest: Manifest) -> TensorFile:
    """Lay the weights file out as the manifest's entries say.

    Raises:
        MalformedPackage: An entry has a size that its dtype and shape do not have.
    """
    return lay_out(Slot(e.name, e.dtype, e.shape, e.nbytes) for e in manifest.entries)


def read_manifest(archive: Archive) -> Manifest:
    """Read the manifest and compare the archive's members with it.

    Raises:
        MalformedPackage: They disagree.
        FormatVersionError: The package is of a later format.
    """
    placed = archive.members.get(MANIFEST)
    if placed is None or next(iter(archive.members)) != MANIFEST:
        raise MalformedPackage(f"{archive.path} is no eipack package: it begins with no manifest")
    if placed.member.size > _MANIFEST_LIMIT:
        raise MalformedPackage(f"{archive.path}: the manifest has {placed.member.size} bytes")
    manifest = Manifest.from_json(archive.read(MANIFEST))
    _check_members(archive, manifest)
    return manifest


def _check_members(archive: Archive, manifest: Manifest) -> None:
    """Require the manifest, then signings by name, then what the manifest lists, and no more."""
    there = list(archive.members.values())[1:]
    signings = [p.member for p in there if p.member.name.startswith(SIGNING_PREFIX)]
    names = [member.name for member in signings]
    if len(names) > _SIGNINGS or any(member.size > _SIGNING_LIMIT for member in signings):
        raise MalformedPackage(f"{archive.path} has more signings, or larger ones, than any may")
    found = [(p.member.name, p.member.size, p.member.crc32) for p in there]
    listed = [(record.name, record.size, record.crc32) for record in manifest.members]
    if [name for name, *_ in found[: len(names)]] != sorted(names) or found[len(names) :] != listed:
        differing = sorted({name for name, *_ in set(listed) ^ set(found)} - set(names))
        name = repr(differing[0]) if differing else "the order of members"
        raise MalformedPackage(f"{archive.path}: {name} is not as the manifest lists it")


def read_member(archive: Archive, manifest: Manifest, name: str) -> bytes:
    """Read a member into private memory and compare its digest.

    Raises:
        DigestMismatch: The bytes differ from the manifest's digest.
        MalformedPackage: There is no such member.
    """
    record = next((record for record in manifest.members if record.name == name), None)
    if record is None or record.digest is None:
        raise MalformedPackage(f"{archive.path}: the manifest gives no digest of {name!r}")
    return _verified(archive, record)


def _verified(archive: Archive, record: MemberRecord) -> bytes:
    data = archive.read(record.name)
    if digest_bytes(data) != record.digest:
        raise DigestMismatch(
            f"{archive.path}: {record.name!r} differs from its digest", name=record.name
        )
    return data


def verify_members(archive: Archive, manifest: Manifest) -> None:
    """Hash every member but the weights file.

    Raises:
        DigestMismatch: One differs from its digest.
    """
    for record in manifest.members:
        if record.digest is not None:
            _verified(archive, record)


def verify_weights(archive: Archive, manifest: Manifest) -> None:
    """Hash every weights entry on several threads, and check header and gaps.

    Raises:
        DigestMismatch: Something differs.
        MalformedPackage: The file is not laid out as its entries say.
    """
    layout = _checked_layout(archive, manifest)
    start = archive.members[WEIGHTS].data_offset
    header = memoryview(bytearray(len(layout.header)))
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


def _checked_layout(archive: Archive, manifest: Manifest) -> TensorFile:
    for entry in manifest.entries:
        if digest_of_chunks(entry.chunks) != entry.digest:
            raise DigestMismatch(
                f"{archive.path}: the chunks of {entry.name!r} contradict its digest",
                name=entry.name,
            )
    layout = weights_layout(manifest)
    if archive.members[WEIGHTS].member.size != layout.total_size:
        raise MalformedPackage(f"{archive.path}: {WEIGHTS} has another size than its entries")
    return layout


def copied_weights(archive: Archive, manifest: Manifest) -> mmap.mmap:
    """Copy the weights file to private memory and verify it there.

    Raises:
        DigestMismatch: Something differs.
        MalformedPackage: The file is not laid out as its entries say.
    """
    layout = _checked_layout(archive, manifest)
    memory = mmap.mmap(-1, layout.total_size)
    view = memoryview(memory)
    archive.pread_into(archive.members[WEIGHTS].data_offset, view)
    padded = any(any(view[start : start + size]) for start, size in layout.gaps)
    if padded or view[: len(layout.header)] != layout.header:
        raise DigestMismatch(
            f"{archive.path}: the header or padding of {WEIGHTS} differs", name=WEIGHTS
        )
    pairs = list(zip(manifest.entries, layout.offsets, strict=True))
    digests = tensor_digests([view[offset : offset + e.nbytes] for e, offset in pairs])
    for (entry, _), found in zip(pairs, digests, strict=True):
        if found.chunks != entry.chunks:
            raise DigestMismatch(
                f"{archive.path}: {entry.name!r} differs from its digest", name=entry.name
            )
    return memory
