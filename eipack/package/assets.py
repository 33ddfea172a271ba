"""Files that travel with a model: tokenizer, labels, licence, model card and whatever else."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from eipack.archive import Member, place
from eipack.errors import MalformedPackage, PackageIOError, UnsupportedModel

_ROLE = re.compile(r"[a-z][a-z0-9_-]{0,63}")


@frozen
class Assets:
    """`roles` maps a role to its file or folder under `assets/`; `members` are the bytes."""

    roles: dict[str, str]
    members: dict[str, bytes]


def collect(assets: Mapping[str, Any]) -> Assets:
    """Read assets: a path of a file or folder, bytes, a list or dict (JSON), or a tokenizer object.

    Raises:
        UnsupportedModel: A role, a value or a file's name is none that a package can hold.
        PackageIOError: A file cannot be read.
    """
    roles: dict[str, str] = {}
    members: dict[str, bytes] = {}
    for role, value in assets.items():
        if not isinstance(role, str) or not _ROLE.fullmatch(role):
            raise UnsupportedModel(f"asset role {role!r}: use small letters, digits, - and _")
        roles[role], files = _read(role, value)
        members.update({f"assets/{name}": data for name, data in files.items()})
    try:
        place(Member(name, len(data), 0) for name, data in members.items())
    except MalformedPackage as error:
        raise UnsupportedModel(f"assets: {error}; rename the file") from error
    return Assets(roles, members)


def _read(role: str, value: Any) -> tuple[str, dict[str, bytes]]:
    if isinstance(value, bytes):
        return role, {role: value}
    if isinstance(value, list | dict):
        return f"{role}.json", {f"{role}.json": _json(role, value)}
    if isinstance(value, str | os.PathLike):
        return _read_path(role, Path(value))
    if hasattr(value, "save_pretrained"):
        with tempfile.TemporaryDirectory() as folder:
            value.save_pretrained(folder)
            return role, _read_folder(role, Path(folder))
    raise UnsupportedModel(
        f"asset {role!r} is a {type(value).__name__}; pass a path, bytes, a list or a tokenizer"
    )


def _json(role: str, value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise UnsupportedModel(f"asset {role!r} cannot be written as JSON: {error}") from error


def _read_path(role: str, path: Path) -> tuple[str, dict[str, bytes]]:
    if path.is_dir():
        return role, _read_folder(role, path)
    name = role + "".join(path.suffixes[-1:])
    return name, {name: _read_file(role, path)}


def _read_folder(role: str, folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise PackageIOError(f"asset {role!r}: {folder} holds no file")
    return {
        f"{role}/{path.relative_to(folder).as_posix()}": _read_file(role, path) for path in files
    }


def _read_file(role: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PackageIOError(f"cannot read asset {role!r} from {path}: {error.strerror}") from error
