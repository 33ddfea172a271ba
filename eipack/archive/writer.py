"""Writing a package file: whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from zlib import crc32

from attrs import evolve, field, frozen

from eipack.archive.buffers import Buffer, as_bytes
from eipack.archive.faults import translated
from eipack.archive.layout import Layout, Member, Placed, place
from eipack.errors import MalformedPackage

if TYPE_CHECKING:
    from collections.abc import Iterator

# Small enough for Ctrl-C and progress, large enough that calls cost nothing.
_PIECE: Final = 8 << 20
# The kernel, the file system or the pair of them cannot copy; reading and writing can.
_CANNOT_COPY: Final = {
    errno.EBADF,
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.ETXTBSY,
    errno.EXDEV,
}
_CANNOT_SYNC_FOLDER: Final = {errno.EINVAL, errno.EOPNOTSUPP}


@frozen
class Region:
    """Bytes that already lie in an open file."""

    fd: int
    offset: int


@frozen
class Source:
    """A member to be written: its name, its size and where its bytes come from.

    A CRC that is given is believed, and the bytes are not summed again; `chunks` may be
    called more than once and must give the same bytes each time.
    """

    name: str
    size: int
    chunks: Callable[[], Iterable[Buffer]] = field(repr=False)
    crc32: int | None = None
    region: Region | None = None

    @classmethod
    def of_bytes(cls, name: str, data: Buffer) -> Self:
        """Take a member from memory."""
        view = as_bytes(data)
        return cls(name, view.nbytes, lambda: (view,))

    @classmethod
    def of_region(
        cls, name: str, fd: int, offset: int, size: int, *, crc32: int | None = None
    ) -> Self:
        """Take a member from an open file, by the kernel alone where the CRC is known."""
        return cls(name, size, lambda: _read_region(fd, offset, size), crc32, Region(fd, offset))


def crc32_of(source: Source) -> int:
    """Give the CRC-32 of a source's bytes, computed only if the source does not carry it.

    Raises:
        MalformedPackage: the chunks do not add up to the size.

    """
    if source.crc32 is not None:
        return source.crc32
    value = 0
    for _, piece in _pieces(source):
        value = crc32(piece, value)
    return value


def write_archive(
    path: str | os.PathLike[str],
    sources: Iterable[Source],
    *,
    progress: Callable[[int], None] | None = None,
) -> Layout:
    """Write a package, replacing what is there when all of it has reached the disk.

    A symbolic link at `path` is itself replaced; the file that it leads to stays.

    Args:
        path: where the package shall be.
        sources: the members, in order.
        progress: told after each piece how many bytes of members are written so far.

    Raises:
        MalformedPackage: a name is not allowed, or chunks do not add up to their size.
        PackageIOError: the file cannot be written; what was there before still is.

    """
    target = Path(path).absolute()
    sources = tuple(sources)
    # Where things lie depends on names and sizes only, so the CRCs can come later.
    draft = place(Member(source.name, source.size, source.crc32 or 0) for source in sources)
    with translated(os.fspath(path), "write"), _replacing(target) as fd:
        output = _Output(fd, progress or (lambda _: None))
        crcs = map(output.add, sources, draft.placed)
        layout = place(
            evolve(placed.member, crc32=crc) for placed, crc in zip(draft.placed, crcs, strict=True)
        )
        for index, placed in enumerate(layout.placed):
            _write(fd, placed.header_offset, layout.local_header(index))
        _write(fd, layout.directory_offset, layout.tail())
    return layout


class _Output:
    """Bytes of members on their way into a file, counted."""

    def __init__(self, fd: int, progress: Callable[[int], None]) -> None:
        self._fd = fd
        self._progress = progress
        self._count = 0

    def add(self, source: Source, placed: Placed) -> int:
        """Write a member's bytes and give their CRC."""
        known, position, value = source.crc32, placed.data_offset, 0
        if source.region and known is not None:
            copied = self._copy(source.region, position, source.size)
            position, source = position + copied, _rest(source, source.region, copied)
        for start, piece in _pieces(source):
            if known is None:
                value = crc32(piece, value)
            _write(self._fd, position + start, piece)
            self._advance(len(piece))
        return value if known is None else known

    def _copy(self, region: Region, position: int, size: int) -> int:
        """Copy inside the kernel as far as it can, and give how far that was."""
        done = 0
        while done < size and hasattr(os, "copy_file_range"):
            length, start = min(_PIECE, size - done), region.offset + done
            try:
                count = os.copy_file_range(region.fd, self._fd, length, start, position + done)
            except OSError as error:
                if error.errno not in _CANNOT_COPY:
                    raise
                break
            if not count:
                break
            done += count
            self._advance(count)
        return done

    def _advance(self, count: int) -> None:
        self._count += count
        self._progress(self._count)


def _rest(source: Source, region: Region, done: int) -> Source:
    start, size = region.offset + done, source.size - done
    return Source.of_region(source.name, region.fd, start, size, crc32=source.crc32)


def _pieces(source: Source) -> Iterator[tuple[int, memoryview]]:
    """Give a source's bytes in pieces with their positions, and hold it to its size."""
    done = 0
    for chunk in source.chunks():
        view = as_bytes(chunk)
        if done + len(view) > source.size:
            raise MalformedPackage(
                f"{source.name!r} has more than the {source.size} bytes that were announced"
            )
        for start in range(0, len(view), _PIECE):
            yield done + start, view[start : start + _PIECE]
        done += len(view)
    if done != source.size:
        raise MalformedPackage(f"{source.name!r} has {done} of {source.size} bytes announced")


def _read_region(fd: int, offset: int, size: int) -> Iterator[bytes]:
    end = offset + size
    while offset < end and (piece := os.pread(fd, min(_PIECE, end - offset), offset)):
        yield piece
        offset += len(piece)


def _write(fd: int, offset: int, data: Buffer) -> None:
    view = as_bytes(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


@contextmanager
def _replacing(path: Path) -> Iterator[int]:
    """Open a new file beside `path`, and put it in its place if all goes well."""
    _check_replaceable(path)
    temporary = path.parent / f".eipack-{os.urandom(8).hex()}.tmp"
    fd = -1
    try:
        # Weights that a group can write to are not mapped when loaded, whatever the umask is.
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        yield fd
        os.fsync(fd)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    finally:
        if fd >= 0:
            os.close(fd)
    _sync_folder(path.parent)


def _check_replaceable(path: Path) -> None:
    """Refuse to replace a directory or a device, which a rename by root would do."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "")
    if not stat.S_ISREG(mode):
        raise OSError(errno.ENODEV, "")


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_FOLDER:
            raise
    finally:
        os.close(fd)
