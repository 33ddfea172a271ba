"""Blobs that clients have sent, on disk: whole ones by their digest, and beginnings of others.

The size of a file says how much of a blob is there, so that nothing has to be remembered and a
process that is killed loses none of it. Only a blob that was hashed has the name of its digest.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from eipack.archive import CHUNK, digest_bytes, tensor_digests
from eipack.archive.faults import translated
from eipack.errors import AcceleratorFull, DigestMismatch, ProtocolError
from eipack_eia.blobs import Blob, file_stem
from eipack_eia.server.rebuilding import Origin

_PART: Final = ".part"
_FILES: Final = re.compile(r"[0-9a-f]{64}(\.part)?")


class Space:
    """A number of bytes on a disk, given away and taken back."""

    def __init__(self, limit_bytes: int, used_bytes: int = 0) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = used_bytes

    @property
    def free_bytes(self) -> int:
        """What is left; nothing where a lowered limit is exceeded."""
        return max(0, self.limit_bytes - self.used_bytes)

    def check(self, needed_bytes: int) -> None:
        """Hold a need to what is left.

        Raises:
            AcceleratorFull: It is more; carries `needed_bytes`, `free_bytes` and `limit_bytes`.
        """
        if needed_bytes > self.free_bytes:
            raise AcceleratorFull(
                f"the accelerator's store of packages needs {needed_bytes} more bytes, and "
                f"{self.free_bytes} of its {self.limit_bytes} are free; discard a package there "
                "or raise its limit",
                needed_bytes=needed_bytes,
                free_bytes=self.free_bytes,
                limit_bytes=self.limit_bytes,
            )

    def take(self, nbytes: int) -> None:
        """Take so many bytes.

        Raises:
            AcceleratorFull: There are not so many.
        """
        self.check(nbytes)
        self.used_bytes += nbytes

    def give(self, nbytes: int) -> None:
        """Give bytes back."""
        self.used_bytes -= nbytes


class Uploads:
    """A folder of blobs, for one thread at a time."""

    def __init__(self, folder: Path, space: Space) -> None:
        self._folder = folder
        self._space = space
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        space.used_bytes += sum(path.stat().st_size for path in self._files())

    def have(self, blob: Blob) -> int:
        """Count the bytes that are there; all of them only where they were found to be right."""
        whole, part = _size(self._whole(blob)), _size(self._part(blob))
        if whole == blob.size:
            return blob.size
        # Sizes that do not fit are of another blob, which somebody gave this digest.
        if whole:
            self._remove(self._whole(blob))
        if part > blob.size:
            self._remove(self._part(blob))
            return 0
        if part == blob.size:  # killed before it was hashed
            return blob.size if self._settle(blob) else 0
        return part

    def append(self, blob: Blob, offset: int, data: memoryview) -> int:
        """Add bytes to a blob and return how many are there.

        Raises:
            ProtocolError: They do not begin where the others end, or are too many; carries `have`.
            AcceleratorFull: They do not fit.
            DigestMismatch: They complete the blob, and it is another; none of it is kept.
            PackageIOError: They cannot be written.
        """
        have = self.have(blob)
        if offset != have:
            message = f"{blob.digest} has {have} bytes here; send what follows, not from {offset}"
            raise ProtocolError(message, have=have)
        if have + len(data) > blob.size:
            message = f"{blob.digest} was announced with {blob.size} bytes, not {have + len(data)}"
            raise ProtocolError(message, have=have)
        self._space.take(len(data))
        part = self._part(blob)
        try:
            with translated(str(part), "write"):
                _append(part, have, data)
        finally:
            self._space.give(have + len(data) - _size(part))
        if have + len(data) == blob.size and not self._settle(blob):
            raise DigestMismatch(
                f"the bytes sent as {blob.digest} have another digest; send them again",
                digest=blob.digest,
            )
        return have + len(data)

    def origin(self, blob: Blob) -> Origin | None:
        """Return a reader of a blob that is whole."""
        whole = self._whole(blob)
        return partial(_read, whole) if _size(whole) == blob.size else None

    def keep(self, digests: Collection[str]) -> None:
        """Remove the blobs that have none of these digests."""
        stems = set(map(file_stem, digests))
        for path in list(self._files()):
            if path.name.removesuffix(_PART) not in stems:
                self._remove(path)

    def recheck(self, blob: Blob) -> bool:
        """Hash a whole blob again; remove it and return True if the disk has spoiled it."""
        whole = self._whole(blob)
        spoiled = whole.is_file() and not _is(blob, whole)
        if spoiled:
            self._remove(whole)
        return spoiled

    def _settle(self, blob: Blob) -> bool:
        """Hash a blob of which all bytes are there; make it a whole one, or remove it."""
        part = self._part(blob)
        if not _is(blob, part):
            self._remove(part)
            return False
        with translated(str(part), "write"):
            part.replace(self._whole(blob))
        return True

    def _remove(self, path: Path) -> None:
        size = _size(path)
        path.unlink(missing_ok=True)
        self._space.give(size)

    def _files(self) -> Iterator[Path]:
        return (path for path in self._folder.iterdir() if _FILES.fullmatch(path.name))

    def _whole(self, blob: Blob) -> Path:
        return self._folder / file_stem(blob.digest)

    def _part(self, blob: Blob) -> Path:
        return self._folder / (file_stem(blob.digest) + _PART)


def _size(path: Path) -> int:
    """Return a file's size; no blob is empty, so 0 says that there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _append(path: Path, offset: int, view: memoryview) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while view:
            count = os.pwrite(fd, view, offset)
            view, offset = view[count:], offset + count
    finally:
        os.close(fd)


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(CHUNK):
            yield piece


def _is(blob: Blob, path: Path) -> bool:
    """Hash a file on several threads, without reading it into memory of our own."""
    if _size(path) != blob.size:
        return False
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if blob.chunks is None:
        return digest_bytes(memory) == blob.digest
    return tensor_digests([memory])[0].chunks == blob.chunks
