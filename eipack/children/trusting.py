"""The caller's `trust`, for processes that cannot be given objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eipack.trust import Trust


def key_files(trust: Trust, folder: Path) -> list[str] | None:
    """Write the keys that are trusted to files, and return their paths; None for the default."""
    from eipack.trust import resolve

    if trust is None:
        return None
    keys = resolve(trust)
    paths = [folder / f"key-{number}.pem" for number in range(len(keys))]
    for path, key in zip(paths, keys, strict=True):
        path.write_text(key.pem, encoding="ascii")
        path.chmod(0o600)
    return [str(path) for path in paths]
