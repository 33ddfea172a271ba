"""A package file made again from its manifest and its blobs, the same to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from eipack.archive import Member, Source, TensorFile, place
from eipack.archive.buffers import Buffer
from eipack.errors import MalformedPackage
from eipack.manifest import MANIFEST, WEIGHTS, Manifest
from eipack.package.verified import SIGNING_PREFIX, weights_layout

Origin = Callable[[], Iterable[Buffer]]
"""Gives the bytes of a blob in pieces, as often as it is called."""

_MANIFEST_LIMIT = 64 << 20
_SIGNING_LIMIT = 64 << 10
_SIGNINGS = 64


def file_size(data: bytes, manifest: Manifest, signings: Mapping[str, bytes]) -> int:
    """Check that a manifest and signings can belong to a package; return the size of its file.

    Raises:
        MalformedPackage: They cannot.
    """
    if len(data) > _MANIFEST_LIMIT:
        raise MalformedPackage(f"the manifest has {len(data)} bytes, allowed are {_MANIFEST_LIMIT}")
    if len(signings) > _SIGNINGS or any(len(one) > _SIGNING_LIMIT for one in signings.values()):
        raise MalformedPackage("the package has more signings, or larger ones, than any may")
    for record in manifest.members:
        if record.name.startswith(SIGNING_PREFIX):
            raise MalformedPackage(f"the manifest lists {record.name!r}, which is for signings")
        if record.name == WEIGHTS and record.size != weights_layout(manifest).total_size:
            raise MalformedPackage(f"{WEIGHTS} has another size than its entries")
    if not all(name.startswith(SIGNING_PREFIX) for name in signings):
        raise MalformedPackage(f"the name of a signing begins with {SIGNING_PREFIX}")
    members = [Member(MANIFEST, len(data), 0)]
    members += [Member(name, len(signings[name]), 0) for name in sorted(signings)]
    members += [Member(record.name, record.size, record.crc32) for record in manifest.members]
    return place(members).total_size


def sources(
    data: bytes,
    manifest: Manifest,
    signings: Mapping[str, bytes],
    origins: Mapping[str, Origin],
) -> list[Source]:
    """Return the members of the file in order; `origins` has each blob that is not empty."""
    found = [Source.of_bytes(MANIFEST, data)]
    found += [Source.of_bytes(name, signings[name]) for name in sorted(signings)]
    for record in manifest.members:
        chunks = _weights(manifest, origins)
        if record.digest is not None:
            chunks = origins.get(record.digest, _nothing)
        # The CRC is believed: what is wrong is seen when the written file is verified.
        found.append(Source(record.name, record.size, chunks, record.crc32))
    return found


def _nothing() -> Iterable[Buffer]:
    return ()


def _weights(manifest: Manifest, origins: Mapping[str, Origin]) -> Origin:
    layout = weights_layout(manifest)
    blobs = [origins.get(entry.digest, _nothing) for entry in manifest.entries]
    return lambda: _laid_out(layout, blobs)


def _laid_out(layout: TensorFile, blobs: Iterable[Origin]) -> Iterator[Buffer]:
    """Give the weights file in pieces, as `TensorFile.chunks` does of whole tensors."""
    yield layout.header
    position = len(layout.header)
    for slot, offset, blob in zip(layout.slots, layout.offsets, blobs, strict=True):
        yield bytes(offset - position)
        yield from blob()
        position = offset + slot.nbytes
