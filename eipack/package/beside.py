"""Writing files out of a package, none of them half."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from eipack.errors import EipackError, PackageIOError


def write_beside(path: Path, write: Callable[[Path], object]) -> Path:
    """Let a function write into a fresh folder beside `path`, then move the results there.

    Raises:
        PackageIOError: The folder or the file cannot be written.
    """
    with _translated(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=".eipack-") as name:
        folder = Path(name)
        write(folder / path.name)
        for made in sorted(folder.iterdir(), reverse=True):
            made.replace(path.with_name(made.name))
    return path


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files by their relative paths into a folder, which is made.

    Raises:
        PackageIOError: One cannot be written.
    """
    with _translated(folder):
        for name, data in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    return folder


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except EipackError:
        raise
    except (OSError, RuntimeError) as error:  # torch raises the latter, for a full disk too
        lines = str(error).splitlines() or [type(error).__name__]
        reason = getattr(error, "strerror", None) or lines[0]
        raise PackageIOError(f"cannot write {path}: {reason}", path=str(path)) from error
