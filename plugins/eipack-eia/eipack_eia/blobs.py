"""What uploads are made of: runs of bytes that a manifest gives a digest for.

Everything else in a package file (headers, padding, CRCs) follows from the manifest, so these
are all that ever travels. Both sides share the values below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from attrs import frozen

from eipack.archive import digest_bytes, digest_of_chunks
from eipack.errors import MalformedPackage
from eipack.manifest import Manifest

_PREFIX: Final = "blake3:"
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_EMPTY: Final = digest_bytes(b"")


@frozen(cache_hash=True)
class Blob:
    """A member of a package, or one weights entry; that one has `chunks`, since it is hashed so."""

    digest: str
    size: int
    chunks: tuple[str, ...] | None


@frozen
class Missing:
    """A blob that the accelerator lacks, and how many of its bytes are there already."""

    digest: str
    size: int
    have: int


@frozen
class Offer:
    """What the accelerator answers to the manifest of a package."""

    package: str
    missing: tuple[Missing, ...]

    @property
    def bytes_to_send(self) -> int:
        """Count what it still lacks."""
        return sum(blob.size - blob.have for blob in self.missing)


def package_id(manifest: bytes) -> str:
    """Return the id of the package that has this manifest: the BLAKE3 of it, hexadecimal."""
    return digest_bytes(manifest).removeprefix(_PREFIX)


def is_package_id(text: str) -> bool:
    """Tell whether a text has the form of an id, and so may become the name of a file."""
    return _HEX.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Tell whether a text has the form of a digest; what follows the colon may name a file."""
    return text.startswith(_PREFIX) and is_package_id(text.removeprefix(_PREFIX))


def file_stem(digest: str) -> str:
    """Return the part of a digest that names files."""
    return digest.removeprefix(_PREFIX)


def blobs_of(manifest: Manifest) -> dict[str, Blob]:
    """Return the blobs of a package by digest; empty ones are left out, as nobody sends them.

    Raises:
        MalformedPackage: A digest has not the form of one, contradicts its chunks, or is given
            to two runs of bytes that cannot be equal.
    """
    found: dict[str, Blob] = {}
    for blob in _listed(manifest):
        _check(blob)
        if blob.size and found.setdefault(blob.digest, blob) != blob:
            raise MalformedPackage(f"the manifest gives {blob.digest} to two different blobs")
    return found


def _listed(manifest: Manifest) -> Iterator[Blob]:
    for record in manifest.members:
        if record.digest is not None:
            yield Blob(record.digest, record.size, None)
    for entry in manifest.entries:
        yield Blob(entry.digest, entry.nbytes, entry.chunks)


def _check(blob: Blob) -> None:
    if blob.size < 0 or not is_digest(blob.digest):
        raise MalformedPackage(f"{blob.digest[:80]!r} of {blob.size} bytes is no digest of eipack")
    if blob.chunks is not None:
        formed = all(map(is_package_id, blob.chunks))
        if not formed or digest_of_chunks(blob.chunks) != blob.digest:
            raise MalformedPackage(f"the chunks of {blob.digest} contradict it")
    if not blob.size and blob.digest != _EMPTY:
        raise MalformedPackage(f"{blob.digest} is not the digest of no bytes")
