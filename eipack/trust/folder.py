"""The folder that keeps this user's key and whom they trust: where it is, and safe access."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from eipack.errors import KeyUnavailable, TrustError

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIVATE = 0o077
"""Permission bits that a file with a secret may not have."""
OURS_TO_WRITE = 0o022
"""Permission bits that a file of this user's settings may not have."""
NOT_FOR_ALL_TO_WRITE = 0o002
"""Permission bits that a file named by this user, wherever it lies, may not have."""

_LARGEST_FILE_BYTES = 4 << 20
_LOCK_TIMEOUT_S = 30.0
_LOCK_POLL_S = 0.01


def config_folder() -> Path | None:
    """Name the folder of this user's eipack settings; None where there is no home.

    `EIPACK_CONFIG_DIR` names the folder itself; without it the platform's place for settings is
    taken (`$XDG_CONFIG_HOME/eipack` or `~/.config/eipack` on Linux).
    """
    override = os.environ.get("EIPACK_CONFIG_DIR")
    if override:
        return expanded(override).absolute()
    import platformdirs

    try:
        folder = platformdirs.user_config_path("eipack", appauthor=False)
    except RuntimeError:
        return None
    # Older platformdirs answer with `~` where there is no home.
    return folder if folder.is_absolute() else None


def expanded(name: str) -> Path:
    """Read a path that may begin with `~`, which stays as it is where there is no home."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser raises without a home


def read_guarded(path: Path, forbidden: int, remedy: str) -> bytes | None:
    """Read a small file, or None if there is none, unless `forbidden` permission bits are set.

    `remedy` is the next step that the message offers beside chmod. Raises KeyUnavailable.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            _check_owned(path, os.fstat(file.fileno()), forbidden, remedy)
            data = file.read(_LARGEST_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except TrustError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise KeyUnavailable(f"cannot read {path} ({reason}); {remedy}") from error
    if len(data) > _LARGEST_FILE_BYTES:
        raise KeyUnavailable(f"{path} is too large to be a file of keys; {remedy}")
    return data


def _open_at_once(path: str, flags: int) -> int:
    # Without O_NONBLOCK a FIFO at this path would hang the process.
    return os.open(path, flags | os.O_NONBLOCK)


def _check_owned(path: Path, status: os.stat_result, forbidden: int, remedy: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyUnavailable(f"{path} is not a file; {remedy}")
    _check_bits(path, status, forbidden, remedy)


def _check_bits(path: Path, status: os.stat_result, forbidden: int, remedy: str) -> None:
    # A file of another user could be changed by that user at any time; root could anyway.
    if forbidden != NOT_FOR_ALL_TO_WRITE and status.st_uid not in (0, os.geteuid()):
        raise KeyUnavailable(f"{path} belongs to another user; {remedy}")
    if status.st_mode & forbidden:
        what = "read or changed" if forbidden & 0o044 else "changed"
        mode = "700" if stat.S_ISDIR(status.st_mode) else "600"
        raise KeyUnavailable(
            f"{path} can be {what} by others (mode {stat.S_IMODE(status.st_mode):o}); "
            f"run: chmod {mode} {path}, or {remedy}"
        )


def check_folder(folder: Path, forbidden: int, remedy: str) -> None:
    """Refuse a folder in which others could replace files; a missing one passes."""
    try:
        status = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise KeyUnavailable(f"cannot read {folder} ({error.strerror}); {remedy}") from error
    _check_bits(folder, status, forbidden, remedy)


@contextmanager
def changing(folder: Path, remedy: str) -> Iterator[None]:
    """Hold the folder's lock while its files are changed, after making it (mode 0700) if needed.

    The one place where errors of writing become KeyUnavailable, with `remedy` as the next step.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_folder(folder, OURS_TO_WRITE, remedy)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _take(lock, folder, remedy)
            yield
        finally:
            os.close(lock)
    except TrustError:
        raise
    except OSError as error:
        raise KeyUnavailable(f"cannot write in {folder} ({error.strerror}); {remedy}") from error


def _take(lock: int, folder: Path, remedy: str) -> None:
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise KeyUnavailable(
                    f"another process has held {folder / '.lock'} for {_LOCK_TIMEOUT_S:.0f} s; "
                    f"end it, or {remedy}"
                ) from None
        time.sleep(_LOCK_POLL_S)


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` (mode 0600) at `path` so that a crash leaves the old file or the new."""
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
