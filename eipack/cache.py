"""What engines compiled, kept per user so that the next process need not compile it again.

An entry is a folder of files under a key that says what was compiled, by what and for what.
It is made under another name and renamed when it is whole; its files are verified against
their digests before an engine sees one, since some of them are native code. The folder is
this user's alone, or it is not used. A cache that cannot be written to costs time and
nothing else.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from attrs import frozen
from blake3 import blake3

from eipack.archive import digest_bytes

_LIST: Final = "entry.json"
_MOST_BYTES: Final = 20_000_000_000
_OF_OTHERS: Final = 0o077


@frozen
class _Entry:
    """What `entry.json` says: the key in full, and the digest of each file."""

    key: dict[str, Any]
    files: dict[str, str]


def cached(key: Mapping[str, Any], make: Callable[[Path], None]) -> tuple[Path, bool]:
    """Return the folder of the files that `make` writes for a key, made now if they are not there.

    `key` is anything that JSON can hold; whatever may change the files belongs to it. The
    second value tells whether the files are kept: if not, the caller deletes the folder when it
    is done with it. Where two processes make an entry at once, one is kept.

    Raises:
        OSError: Not even a temporary folder can be written to.
        Exception: What `make` raises; nothing is kept then.
    """
    folder = cache_folder()
    if folder is None or not _is_ours(folder):
        return _made_aside(make), False
    place = folder / digest_bytes(msgspec.json.encode(key, order="sorted")).partition(":")[2]
    if _is_whole(place, key):
        _touch(place)
        return place, True
    building = folder / f".{place.name}.{os.urandom(8).hex()}"
    try:
        building.mkdir(mode=0o700)
    except OSError:
        return _made_aside(make), False
    return _made(place, building, key, make)


def _made(
    place: Path, building: Path, key: Mapping[str, Any], make: Callable[[Path], None]
) -> tuple[Path, bool]:
    try:
        make(building)
        files = {path.name: _digest(path) for path in building.iterdir()}
        (building / _LIST).write_bytes(msgspec.json.encode(_Entry(dict(key), files)))
        _put(building, place, key)
    except OSError:  # the disk is full, say
        shutil.rmtree(building, ignore_errors=True)
        return _made_aside(make), False
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    _make_room(place)
    return place, True


def _put(building: Path, place: Path, key: Mapping[str, Any]) -> None:
    """Rename what is whole now, unless another process was quicker; replace what is damaged."""
    try:
        building.rename(place)
    except OSError:
        if not _is_whole(place, key):
            shutil.rmtree(place, ignore_errors=True)
            building.rename(place)
        else:
            shutil.rmtree(building, ignore_errors=True)


def _made_aside(make: Callable[[Path], None]) -> Path:
    """Make the files in a temporary folder, which the caller deletes."""
    import tempfile

    aside = Path(tempfile.mkdtemp(prefix="eipack-"))
    try:
        make(aside)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return aside


def cache_folder() -> Path | None:
    """Name the folder of compiled forms; None where there is no home.

    `EIPACK_CACHE_DIR` names the folder that it lies in; without it the platform's place for
    caches is taken (`$XDG_CACHE_HOME/eipack` or `~/.cache/eipack` on Linux).
    """
    override = os.environ.get("EIPACK_CACHE_DIR")
    if override:
        return Path(override).absolute() / "compiled"
    import platformdirs

    try:
        folder = platformdirs.user_cache_path("eipack", appauthor=False)
    except RuntimeError:
        return None
    return folder / "compiled" if folder.is_absolute() else None


def _is_ours(folder: Path) -> bool:
    """Make the folder if need be; tell whether it is this user's, and closed to others."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return False
    return status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & _OF_OTHERS


def _is_whole(place: Path, key: Mapping[str, Any]) -> bool:
    """Tell whether an entry is there, for this key and no other, and every file as it was made."""
    try:
        entry = msgspec.json.decode((place / _LIST).read_bytes(), type=_Entry)
        there = {path.name for path in place.iterdir()} - {_LIST}
        return (
            entry.key == msgspec.to_builtins(dict(key))
            and there == set(entry.files)
            and all(_digest(place / name) == digest for name, digest in entry.files.items())
        )
    except (OSError, msgspec.MsgspecError):
        return False


def _digest(path: Path) -> str:
    """Digest a file; several threads where it is large."""
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()


def _touch(place: Path) -> None:
    try:
        os.utime(place)
    except OSError:
        return  # it only makes the entry look older than it is


def _make_room(newest: Path) -> None:
    """Delete the entries that were not used for longest, beyond `EIPACK_CACHE_BYTES` (20 GB)."""
    most = int(os.environ.get("EIPACK_CACHE_BYTES", _MOST_BYTES))
    found = []
    for place in newest.parent.iterdir():
        try:
            found.append((place.stat().st_mtime, _size(place), place))
        except OSError:
            continue
    total = sum(size for _, size, _ in found)
    for _, size, place in sorted(found):
        if total <= most:
            return
        if place != newest:
            shutil.rmtree(place, ignore_errors=True)
            total -= size


def _size(place: Path) -> int:
    return sum(path.stat().st_size for path in place.iterdir()) if place.is_dir() else 0
