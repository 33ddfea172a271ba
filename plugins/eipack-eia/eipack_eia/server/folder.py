"""A folder that one process keeps its files in, whole ones under the names of digests."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import Final

from eipack.errors import PackageIOError
from eipack_eia.blobs import is_package_id

_LEFT_BEHIND: Final = re.compile(r"\.eipack-[0-9a-f]{16}\.tmp|[0-9a-f]{64}\.draft")


def claim(folder: Path) -> int:
    """Lock the folder; the system lets go of it when the descriptor or the process is gone.

    Raises:
        PackageIOError: Another process has it.
    """
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise PackageIOError(
            f"{folder} is the store of another accelerator that runs; stop that one, or give "
            "each a folder of its own"
        ) from None
    except BaseException:
        os.close(fd)
        raise
    return fd


def named(folder: Path, suffix: str) -> list[Path]:
    """List the files that a store made; whatever else lies there is left alone."""
    found = (path for path in folder.iterdir() if path.suffix == suffix)
    return sorted(path for path in found if is_package_id(path.stem))


def clear(folder: Path) -> None:
    """Remove what a process that was killed had not finished writing."""
    for path in folder.iterdir():
        if _LEFT_BEHIND.fullmatch(path.name):
            path.unlink()
