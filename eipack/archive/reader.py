"""A package file, opened once and proven canonical."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import weakref
from threading import RLock
from typing import TYPE_CHECKING, Self
from zlib import crc32

from eipack.archive.directory import read_layout
from eipack.archive.faults import translated
from eipack.errors import MalformedPackage, PackageChanged, PackageIOError

if TYPE_CHECKING:
    from eipack.archive.layout import Layout

# A FIFO would block an open without O_NONBLOCK; to a regular file it means nothing.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Archive:
    """A canonical zip behind one file descriptor, which is never opened again by path.

    Methods may be called from several threads; `close` only when none of them runs, but for
    `duplicate`.
    """

    def __init__(self, path: str, fd: int, found: os.stat_result, layout: Layout) -> None:
        """Take over a file descriptor whose file has been proven to have this layout."""
        self._fd = fd
        self._stat = found
        self._mapping: mmap.mmap | None = None
        self._lock = RLock()
        self.path = path
        self.size = found.st_size
        self.layout = layout
        self.members = {placed.member.name: placed for placed in layout.placed}
        _archives.add(self)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open a file and prove that every byte outside its members is canonical.

        What the members hold is not looked at.

        Raises:
            MalformedPackage: the file is no canonical package.
            PackageIOError: the file cannot be opened or read, or is not a regular one.

        """
        path = os.fspath(path)
        with translated(path, "open"):
            fd = os.open(path, _FLAGS)
        try:
            with translated(path, "read"):
                found = _regular(os.fstat(fd))
            return cls(path, fd, found, _layout(path, fd, found.st_size))
        except BaseException:
            os.close(fd)
            raise

    @property
    def fd(self) -> int:
        """Give the file descriptor, which stays the archive's own."""
        if self._fd < 0:
            raise PackageIOError(f"{self.path} is closed already; open it again", path=self.path)
        return self._fd

    def duplicate(self) -> Self:
        """Give an archive of the same open file that outlives `close` of this one.

        Raises:
            PackageIOError: this one is closed, or too many files are open.

        """
        with self._lock:
            with translated(self.path, "read"):
                fd = os.dup(self.fd)
            return type(self)(self.path, fd, self._stat, self.layout)

    def read(self, name: str) -> bytes:
        """Read a member into private memory and check its CRC.

        Raises:
            MalformedPackage: there is no such member, its CRC differs, or the file is now shorter.

        """
        placed = self.members.get(name)
        if placed is None:
            raise MalformedPackage(f"{self.path} has no member {name!r}", path=self.path, name=name)
        data = _pread(self.path, self.fd, placed.data_offset, placed.member.size)
        if crc32(data) != placed.member.crc32:
            message = f"{self.path} is damaged: the bytes of {name!r} differ from their CRC"
            raise MalformedPackage(message, path=self.path, name=name)
        return data

    def pread_into(self, offset: int, view: memoryview) -> None:
        """Fill a view of bytes from an offset in the file; the caller checks what came.

        Raises:
            MalformedPackage: the file is now too short.

        """
        fd = self.fd
        while view:
            with translated(self.path, "read"):
                count = os.preadv(fd, [view], offset)
            if not count:
                raise _truncated(self.path)
            view, offset = view[count:], offset + count

    def mapping(self) -> mmap.mmap:
        """Map the whole file copy-on-write: writes to the memory never reach the file.

        It is made once and outlives `close` for whoever still uses it.

        Raises:
            MalformedPackage: the file is now too short.
            PackageIOError: the file cannot be mapped.

        """
        with self._lock:
            if self._mapping is None:
                try:
                    with translated(self.path, "map"):
                        self._mapping = mmap.mmap(self.fd, self.size, access=mmap.ACCESS_COPY)
                except ValueError:
                    raise _truncated(self.path) from None
            return self._mapping

    def owner_is_safe(self) -> bool:
        """Tell whether nobody but this user and root can write to the file."""
        with translated(self.path, "examine"):
            now = os.fstat(self.fd)
        return now.st_uid in {os.geteuid(), 0} and not now.st_mode & _OTHERS_WRITE

    def check_unchanged(self) -> None:
        """Compare the file's size and time of modification with those found on opening.

        The time of change is left alone: chmod, rename and link set it too.

        Raises:
            PackageChanged: somebody wrote to the file since.

        """
        try:  # sessions ask before each call, and a context costs as much as the system call
            now = os.fstat(self.fd)
        except OSError:
            with translated(self.path, "examine"):
                raise
        if (now.st_size, now.st_mtime_ns) != (self._stat.st_size, self._stat.st_mtime_ns):
            message = f"{self.path} was written to while it was open; load it again"
            raise PackageChanged(message, path=self.path)

    def close(self) -> None:
        """Let go of the file, once."""
        with self._lock:
            fd, self._fd = self._fd, -1
            self._mapping = None
            if fd >= 0:
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Archive {self.path!r}, {len(self.members)} members>"

    def __del__(self) -> None:
        self.close()


_archives: weakref.WeakSet[Archive] = weakref.WeakSet()


def _renew_locks() -> None:
    """Forget, in a forked child, the locks of threads that only the parent has."""
    for archive in list(_archives):
        archive._lock = RLock()


os.register_at_fork(after_in_child=_renew_locks)


def _layout(path: str, fd: int, size: int) -> Layout:
    try:
        return read_layout(lambda offset, length: _pread(path, fd, offset, length), size)
    except MalformedPackage as error:
        reason = error.message
        message = f"{path} is not an intact package: {reason}"
        raise MalformedPackage(message, path=path, reason=reason) from None


def _pread(path: str, fd: int, offset: int, size: int) -> bytes:
    pieces: list[bytes] = []
    while size:
        with translated(path, "read"):
            piece = os.pread(fd, size, offset)
        if not piece:
            raise _truncated(path)
        pieces.append(piece)
        size, offset = size - len(piece), offset + len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _truncated(path: str) -> MalformedPackage:
    return MalformedPackage(f"{path} was truncated while being read", path=path)


def _regular(found: os.stat_result) -> os.stat_result:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.ENODEV, "")
    return found
