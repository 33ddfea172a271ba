"""Operating system errors about a package file, in words."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from eipack.errors import EipackError, PackageIOError

if TYPE_CHECKING:
    from collections.abc import Iterator

_REASONS = {
    errno.EACCES: "permission denied",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file would be larger than the file system or a limit allows",
    errno.EIO: "the device reports an input/output error",
    errno.EISDIR: "it is a directory",
    errno.ELOOP: "too many symbolic links",
    errno.EMFILE: "this process has too many files open",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENFILE: "the system has too many files open",
    errno.ENODEV: "it is not a regular file",
    errno.ENOENT: "there is no such file or folder",
    errno.ENOMEM: "there is not enough memory",
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.ENOTDIR: "a part of its path is not a directory",
    errno.EPERM: "the operation is not permitted",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ESTALE: "the file is gone from its server",
}


@contextmanager
def translated(path: str, verb: str) -> Iterator[None]:
    """Turn an OSError into a PackageIOError with `path`, `reason` and `errno`.

    Args:
        path: the package file that was worked on.
        verb: what failed, as in "cannot write".

    """
    try:
        yield
    except EipackError:
        raise
    except OSError as error:
        reason = _REASONS.get(error.errno or 0) or os.strerror(error.errno or 0)
        message = f"cannot {verb} {path}: {reason}"
        raise PackageIOError(message, path=path, reason=reason, errno=error.errno) from error
