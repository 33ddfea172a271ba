"""Whom this user trusts: the own key, the keys added to a file, and those the environment names.

The file is `trusted-keys.json` in the settings folder:
`{"version": 1, "keys": [{"key_id", "label", "added", "public_key"}]}`, `public_key` in PEM and
`added` in ISO 8601, UTC. `EIPACK_TRUSTED_KEYS` names PEM files, or folders with `*.pem` files,
separated as in PATH.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from attrs import evolve, frozen

from eipack.errors import KeyNotFound, KeyUnavailable, TrustError, TrustStoreDamaged
from eipack.trust.folder import (
    NOT_FOR_ALL_TO_WRITE,
    OURS_TO_WRITE,
    changing,
    check_folder,
    config_folder,
    expanded,
    read_guarded,
    write_whole,
)
from eipack.trust.keys import PublicKey, own_key, own_key_path

if TYPE_CHECKING:
    from pathlib import Path

Source = Literal["own", "store", "environment"]
Trust = PublicKey | str | os.PathLike[str] | Iterable[PublicKey | str | os.PathLike[str]] | None
"""What `resolve` takes: a key, a PEM file, several of them, or None for all trusted keys."""

_VERSION: Final = 1
_FILE: Final = "trusted-keys.json"
OWN_LABEL: Final = "own key"
_LONGEST_LABEL: Final = 100
_REMEDY: Final = "name the keys in EIPACK_TRUSTED_KEYS, or another folder in EIPACK_CONFIG_DIR"


@frozen
class TrustedKey:
    """A key that this user trusts, and why."""

    key: PublicKey
    source: Source
    location: str
    """The file (or, for a key given as text, the environment variable) that it comes from."""
    added: datetime | None
    """When it was added (UTC); for a key from another file than the store, that file's date."""

    @property
    def label(self) -> str:
        """What the user calls the key."""
        return self.key.label or self.key.key_id


def trusted_keys() -> list[TrustedKey]:
    """List the keys that this user trusts: own, added, then those of the environment.

    A key with several sources is listed for each. Raises KeyUnavailable where a source is there
    and cannot be used: none is left out in silence.
    """
    return [*_own(), *_stored(), *_from_environment()]


def add(public_key: PublicKey, label: str) -> TrustedKey:
    """Trust a key from now on; for a key that was added before, change its label.

    Raises TrustStoreDamaged where the store is damaged, KeyUnavailable where it cannot be
    written, ValueError for a label that is not one printable line of at most 100 characters,
    or is another key's.
    """
    if not label.strip() or not label.isprintable() or len(label) > _LONGEST_LABEL:
        raise ValueError(f"a label is one printable line of 1 to {_LONGEST_LABEL} characters")
    if label.strip().casefold() == OWN_LABEL:
        raise ValueError(f"{OWN_LABEL!r} is what your own key is called; choose another label")
    path = _store_path()
    with changing(path.parent, _REMEDY):
        keys = _read(path)
        new = TrustedKey(evolve(public_key, label=label), "store", str(path), _now())
        taken = next((old for old in keys if old.label == label and old.key != public_key), None)
        if taken is not None:
            raise ValueError(f"the label {label!r} is that of {taken.key.key_id}; choose another")
        for position, old in enumerate(keys):
            if old.key == public_key:
                new = keys[position] = evolve(new, added=old.added)
                break
        else:
            keys.append(new)
        _write(path, keys)
    return new


def remove(name: str) -> TrustedKey:
    """Stop trusting the one added key whose key id or label is, or else starts with, `name`.

    The `ec-p256:` of a key id may be left out. Raises KeyNotFound if none or several match.
    """
    path = _store_path()
    with changing(path.parent, _REMEDY):
        keys = _read(path)
        gone = _choose(name, keys)
        _write(path, [key for key in keys if key is not gone])
    return gone


def resolve(trust: Trust) -> list[PublicKey]:
    """Give the keys to verify with: those of `trust` exactly, or all trusted keys for None.

    Raises KeyUnavailable for a file without a usable key, TypeError for anything else than keys
    and paths of PEM files.
    """
    if trust is None:
        return [trusted.key for trusted in trusted_keys()]
    if isinstance(trust, Iterable) and not isinstance(trust, str):
        return [_resolve_one(one) for one in trust]
    return [_resolve_one(trust)]


def _resolve_one(trust: object) -> PublicKey:
    if isinstance(trust, PublicKey):
        return trust
    if isinstance(trust, str | os.PathLike):
        return PublicKey.read(trust)
    raise TypeError(
        f"trust takes public keys, paths of PEM files or None, not {type(trust).__name__}"
    )


def _own() -> list[TrustedKey]:
    key = own_key(create=False)
    if key is None:
        return []
    path = own_key_path()
    where = "EIPACK_SIGNING_KEY" if path is None else str(path)
    return [TrustedKey(evolve(key.public, label=OWN_LABEL), "own", where, _dated(path))]


def _stored() -> list[TrustedKey]:
    folder = config_folder()
    return [] if folder is None else _read(folder / _FILE)


def _from_environment() -> list[TrustedKey]:
    listed = os.environ.get("EIPACK_TRUSTED_KEYS", "").split(os.pathsep)
    files = [file for name in listed if name for file in _pem_files(expanded(name))]
    return [TrustedKey(PublicKey.read(f), "environment", str(f), _dated(f)) for f in files]


def _pem_files(path: Path) -> list[Path]:
    if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where it may not look
        return [path]
    remedy = "let EIPACK_TRUSTED_KEYS name the files themselves"
    check_folder(path, NOT_FOR_ALL_TO_WRITE, remedy)
    try:
        # Path.glob would take a folder that cannot be read for an empty one.
        return sorted(file for file in path.iterdir() if file.suffix == ".pem")
    except OSError as error:
        raise KeyUnavailable(f"cannot read {path} ({error.strerror}); {remedy}") from error


def _store_path() -> Path:
    folder = config_folder()
    if folder is None:
        raise KeyUnavailable(f"there is no home folder to keep trusted keys in; {_REMEDY}")
    return folder / _FILE


def _read(path: Path) -> list[TrustedKey]:
    check_folder(path.parent, OURS_TO_WRITE, _REMEDY)
    data = read_guarded(path, OURS_TO_WRITE, _REMEDY)
    if data is None:
        return []
    try:
        return _parse(json.loads(data), str(path))
    except (KeyError, TypeError, ValueError, RecursionError, TrustError) as error:
        raise TrustStoreDamaged(
            f"{path} is damaged ({type(error).__name__}: {error}) and was left as it is; "
            "repair it, or move it away and add the keys again with `eipack trust add`"
        ) from error


def _parse(document: dict[str, Any], location: str) -> list[TrustedKey]:
    if document["version"] != _VERSION:
        raise ValueError(f"version {document['version']!r} is not known here")
    return [_entry(entry, location) for entry in document["keys"]]


def _entry(entry: dict[str, Any], location: str) -> TrustedKey:
    label = entry["label"]
    if not isinstance(label, str) or not label.isprintable():
        raise ValueError("a label is not one printable line")
    key = PublicKey.from_pem(entry["public_key"], label)
    if key.key_id != entry["key_id"]:
        raise ValueError(f"the key listed as {entry['key_id']!r} is {key.key_id}")
    return TrustedKey(key, "store", location, datetime.fromisoformat(entry["added"]))


def _write(path: Path, keys: list[TrustedKey]) -> None:
    entries = [
        {
            "key_id": trusted.key.key_id,
            "label": trusted.label,
            "added": trusted.added.isoformat() if trusted.added else None,
            "public_key": trusted.key.pem,
        }
        for trusted in keys
    ]
    text = json.dumps({"version": _VERSION, "keys": entries}, indent=2, ensure_ascii=False)
    write_whole(path, text.encode() + b"\n")


def _choose(name: str, keys: list[TrustedKey]) -> TrustedKey:
    exact = [key for key in keys if name in _names(key)]
    found = exact or [key for key in keys if name and any(n.startswith(name) for n in _names(key))]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(f"{key.key.key_id} ({key.label})" for key in found)
        raise KeyNotFound(f"{name!r} may be any of {several}; give more of the key id")
    raise KeyNotFound(f"no added key has an id or label that starts with {name!r}{_where(name)}")


def _where(name: str) -> str:
    for trusted in [*_own(), *_from_environment()]:
        if name and any(n.startswith(name) for n in _names(trusted)):
            if trusted.source == "own":
                return f"; that is your own key, trusted as long as {trusted.location} exists"
            return f"; EIPACK_TRUSTED_KEYS names one, in {trusted.location}"
    return "; see: eipack trust list"


def _names(trusted: TrustedKey) -> tuple[str, str, str]:
    key_id = trusted.key.key_id
    return trusted.label, key_id, key_id.partition(":")[2]


def _dated(path: Path | None) -> datetime | None:
    if path is None:
        return None
    return datetime.fromtimestamp(int(path.stat().st_mtime), UTC)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
