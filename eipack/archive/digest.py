"""BLAKE3 digests: of whole members, and of tensors as two-level trees.

A tensor's digest is BLAKE3 over the concatenated BLAKE3 digests of its 8 MiB chunks,
counted from the tensor's own start; so also for one chunk, or for none.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from attrs import frozen
from blake3 import blake3

from eipack.archive.buffers import as_bytes
from eipack.errors import DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from eipack.archive.buffers import Buffer
    from eipack.archive.reader import Archive

CHUNK: Final = 8 << 20
_PREFIX: Final = "blake3:"
# Stays in the cache between reading and hashing; smaller pieces have threads wait for the GIL.
_PIECE: Final = 1 << 20
# Below this, starting threads takes longer than hashing.
_WORTH_A_THREAD: Final = 4 << 20

_T = TypeVar("_T")


class TensorDigest(NamedTuple):
    """A tensor's digest, and those of its chunks as plain hexadecimal."""

    digest: str
    chunks: tuple[str, ...]


@frozen
class Expected:
    """Bytes of a file and the chunk digests they must have; `label` names them in errors."""

    label: str
    offset: int
    size: int
    chunks: tuple[str, ...]


def digest_bytes(data: Buffer) -> str:
    """Digest a whole member: "blake3:" and 64 hexadecimal digits."""
    return _PREFIX + blake3(as_bytes(data)).hexdigest()


def digest_of_chunks(chunks: Iterable[str]) -> str:
    """Give the digest of the tensor whose chunks have these digests."""
    return _PREFIX + blake3(b"".join(map(bytes.fromhex, chunks))).hexdigest()


def tensor_digest(tensor: Buffer) -> TensorDigest:
    """Digest a tensor's bytes on this thread."""
    return tensor_digests([tensor], threads=1)[0]


def tensor_digests(tensors: Sequence[Buffer], threads: int | None = None) -> list[TensorDigest]:
    """Digest tensors in memory on several threads, by default one for each core allowed."""
    views = [as_bytes(tensor) for tensor in tensors]
    hexes = [[""] * _count(len(view)) for view in views]
    units = [(index, number) for index, found in enumerate(hexes) for number in range(len(found))]

    def work(shared: Iterator[tuple[int, int]]) -> None:
        for index, number in shared:
            chunk = views[index][number * CHUNK : (number + 1) * CHUNK]
            hexes[index][number] = blake3(chunk).hexdigest()

    _spread(work, units, sum(map(len, views)), threads)
    return [TensorDigest(digest_of_chunks(found), tuple(found)) for found in hexes]


def verify_tensors(
    archive: Archive,
    expected: Sequence[Expected],
    *,
    zeros: Iterable[tuple[int, int]] = (),
    threads: int | None = None,
) -> None:
    """Hold bytes of a file to their chunk digests, and gaps to zeros.

    The file is read, not mapped: one that is truncated meanwhile gives an error, not a SIGBUS.

    Args:
        archive: the file.
        expected: what lies where, and its digests.
        zeros: (offset, size) of the bytes that must be zero.
        threads: by default one for each core that this process may use.

    Raises:
        DigestMismatch: bytes differ; it carries `path` and `label`.
        MalformedPackage: the file became too short.

    """
    units: list[tuple[Expected, int]] = []
    for item in expected:
        if len(item.chunks) != _count(item.size):
            raise _mismatch(archive, item.label, f"has {len(item.chunks)} chunk digests")
        units += [(item, number) for number in range(len(item.chunks))]

    def work(shared: Iterator[tuple[Expected, int]]) -> None:
        buffer = memoryview(bytearray(_PIECE))
        for item, number in shared:
            start = item.offset + number * CHUNK
            size = min(CHUNK, item.offset + item.size - start)
            if _digest_of_file(archive, start, size, buffer) != item.chunks[number]:
                where = f"differs from its digest between bytes {start} and {start + size}"
                raise _mismatch(archive, item.label, where)

    _spread(work, units, sum(item.size for item in expected), threads)
    _check_zeros(archive, zeros)


def _digest_of_file(archive: Archive, start: int, size: int, buffer: memoryview) -> str:
    hasher = blake3()
    for view in _read(archive, start, size, buffer):
        hasher.update(view)
    return hasher.hexdigest()


def _check_zeros(archive: Archive, zeros: Iterable[tuple[int, int]]) -> None:
    buffer = memoryview(bytearray(_PIECE))
    for start, size in zeros:
        for view in _read(archive, start, size, buffer):
            if view != bytes(len(view)):
                raise _mismatch(archive, "padding", f"at byte {start} is not all zeros")


def _read(archive: Archive, start: int, size: int, buffer: memoryview) -> Iterator[memoryview]:
    """Read a range piece by piece; each piece is overwritten by the next."""
    for done in range(0, size, len(buffer)):
        view = buffer[: size - done]
        archive.pread_into(start + done, view)
        yield view


def _mismatch(archive: Archive, label: str, what: str) -> DigestMismatch:
    message = f"{archive.path} is damaged: {label} {what}"
    return DigestMismatch(message, path=archive.path, label=label)


def _count(size: int) -> int:
    return -(-size // CHUNK)


def _spread(
    work: Callable[[Iterator[_T]], None], units: Sequence[_T], nbytes: int, threads: int | None
) -> None:
    """Share units out among threads; the first failure stops them all and is raised."""
    # Taking from the iterator of a list is atomic, so it needs no lock.
    shared = iter(units)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work(shared)
        except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
            failures.append(error)
            # Leaves nothing to do for the others.
            deque(shared, maxlen=0)

    limit = min(threads or _cores(), len(units), -(-nbytes // _WORTH_A_THREAD))
    helpers = [threading.Thread(target=run, name="eipack-digest") for _ in range(limit - 1)]
    for helper in helpers:
        helper.start()
    run()
    for helper in helpers:
        helper.join()
    if failures:
        raise failures[0]


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
