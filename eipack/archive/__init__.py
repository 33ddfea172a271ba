"""The file layout of a package, which knows nothing of models."""

from __future__ import annotations

from eipack.archive.digest import (
    CHUNK,
    Expected,
    TensorDigest,
    digest_bytes,
    digest_of_chunks,
    tensor_digest,
    tensor_digests,
    verify_tensors,
)
from eipack.archive.layout import Layout, Member, Placed, place
from eipack.archive.reader import Archive
from eipack.archive.tensorfile import Slot, TensorFile, lay_out
from eipack.archive.writer import Source, crc32_of, write_archive

__all__ = [
    "CHUNK",
    "Archive",
    "Expected",
    "Layout",
    "Member",
    "Placed",
    "Slot",
    "Source",
    "TensorDigest",
    "TensorFile",
    "crc32_of",
    "digest_bytes",
    "digest_of_chunks",
    "lay_out",
    "place",
    "tensor_digest",
    "tensor_digests",
    "verify_tensors",
    "write_archive",
]
