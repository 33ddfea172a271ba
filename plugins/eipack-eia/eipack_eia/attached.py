"""Which accelerators are attached to this host, each under an ordinal: `eia:0`, `eia:1`.

They are kept in `accelerators.json` in the settings folder, `{"version": 1, "accelerators":
[{"ordinal", "id", "endpoint", "type", "model", "token_file", "ca", "certificate", "key"}]}`; one
that a pool has lent has `pool` too, which its lender reads.
A host without such a folder lists them in `EIPACK_ACCELERATORS`, which goes before the file:
`HOST:PORT[,token-file=F][,ca=F][,cert=F][,key=F][,id=ID][,model=NAME]`, separated by semicolons.
Tokens are in neither: their files are read when a token is needed.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Annotated, Final, Literal, cast

import msgspec
from attrs import astuple, evolve, field, frozen

from eipack.errors import AcceleratorUnavailable, KeyUnavailable, TrustStoreDamaged
from eipack.trust.folder import (
    OURS_TO_WRITE,
    changing,
    check_folder,
    config_folder,
    expanded,
    read_guarded,
    write_whole,
)
from eipack_eia.credentials import Credentials, credentials_from, is_loopback
from eipack_eia.endpoint import Endpoint

Kind = Literal["eipack", "oip", "triton"]

ACCELERATORS: Final = "EIPACK_ACCELERATORS"
VISIBLE: Final = "EI_VISIBLE_DEVICES"
UNKNOWN_TYPE: Final = "unknown"

_VERSION: Final = 1
_FILE: Final = "accelerators.json"
_ID: Final = re.compile(r"eia-[0-9A-Za-z._-]{1,64}")
_OPTIONS: Final = ("token-file", "ca", "cert", "key", "id", "model")
_REMEDY: Final = f"list the accelerators in {ACCELERATORS}, or set EIPACK_CONFIG_DIR to a folder"


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()


@frozen
class Files:
    """Where the credentials for an accelerator lie; relative paths become absolute."""

    token_file: Path | None = field(default=None, converter=_absolute)
    ca: Path | None = field(default=None, converter=_absolute)
    certificate: Path | None = field(default=None, converter=_absolute)
    key: Path | None = field(default=None, converter=_absolute)

    @property
    def tls(self) -> bool:
        """Whether any of them makes sense on an encrypted connection alone."""
        return any((self.ca, self.certificate, self.key))

    def credentials(self, endpoint: Endpoint) -> Credentials:
        """Read them; without a token file, the token of an accelerator on this host is found.

        Raises:
            KeyUnavailable: A file cannot be used.
        """
        return credentials_from(self.token_file, self.ca, self.certificate, self.key, endpoint)


def check_id(text: str) -> None:
    """Raise ValueError for what is no id of an accelerator, as an ordinal or a list of ids."""
    if _ID.fullmatch(text) is None:
        raise ValueError(f"id {text[:80]!r}: write eia- and up to 64 letters or digits")


@frozen
class Attached:
    """An accelerator that is attached under an ordinal.

    `type` is what it said when it was attached, `unknown` where nobody has asked it. `model` is
    the one that a foreign server shall run. `pool` is what the lender of a pool's accelerator
    has to know of it.
    """

    ordinal: int
    id: str = field(validator=lambda _self, _attribute, value: check_id(value))
    endpoint: Endpoint
    type: str = UNKNOWN_TYPE
    model: str | None = None
    files: Files = Files()
    pool: str | None = field(default=None, repr=False)

    @property
    def kind(self) -> Kind:
        """Whose server it is."""
        scheme = self.endpoint.scheme
        return cast("Kind", scheme.partition("+")[0] if self.endpoint.foreign else "eipack")

    @property
    def has_own_id(self) -> bool:
        """Whether the id is the accelerator's or this user's, not made from its address."""
        return self.id != made_id(self.endpoint, self.model)

    @property
    def credentials(self) -> Credentials:
        """Read what to show to it, anew each time, so that a renewed token is seen.

        Raises:
            KeyUnavailable: A file cannot be used.
        """
        return self.files.credentials(self.endpoint)

    def __str__(self) -> str:
        return f"eia:{self.ordinal} ({self.id})"


def made_id(endpoint: Endpoint, model: str | None = None) -> str:
    """Make an id for an accelerator that tells none; one address and model give the same."""
    text = f"{endpoint}\n{model or ''}".encode()
    return f"eia-{hashlib.blake2b(text, digest_size=16).hexdigest()}"


def endpoint_for(text: str, files: Files) -> Endpoint:
    """Read an address; a bare `HOST:PORT` means https where files of TLS are given.

    So it does for a token that would leave this host: `http://` has to be written out for that.

    Raises:
        ValueError: It is no address, or says itself that it is not encrypted.
    """
    endpoint = Endpoint.parse(text)
    if endpoint.encrypted or not (files.tls or _leaves_host(text, endpoint, files)):
        return endpoint
    if "://" in text:
        raise ValueError(
            f"endpoint {text!r} is not encrypted, so it takes no CA, certificate or key; "
            f"leave them out, or write https://{endpoint.netloc}"
        )
    return evolve(endpoint, scheme="https")


def _leaves_host(text: str, endpoint: Endpoint, files: Files) -> bool:
    secret = files.token_file is not None and not is_loopback(endpoint.host)
    return secret and "://" not in text


def attached() -> list[Attached]:
    """List the attached accelerators by ordinal.

    Raises:
        AcceleratorUnavailable: `EIPACK_ACCELERATORS` cannot be read.
        TrustStoreDamaged: The file cannot be read.
        KeyUnavailable: The file may not be read, or others could change it.
    """
    if _listed() is not None:
        return _from_environment()
    folder = config_folder()
    return [] if folder is None else _read(folder / _FILE)


def visible() -> list[Attached]:
    """List those that `EI_VISIBLE_DEVICES` leaves, in its order and numbered from 0.

    It names ordinals or ids, separated by commas; unset it leaves all as they are, empty none.

    Raises:
        AcceleratorUnavailable: It names what is not attached, or something twice.
        EipackError: As for `attached`.
    """
    wanted = os.environ.get(VISIBLE)
    there = attached()
    if wanted is None:
        return there
    names = wanted.split(",") if wanted.strip() else []
    try:
        return _numbered(_chosen(names, there))
    except (AcceleratorUnavailable, ValueError) as error:
        raise AcceleratorUnavailable(f"{VISIBLE}: {error}") from error


def attach(
    endpoint: Endpoint,
    files: Files | None = None,
    *,
    accelerator_id: str,
    type_name: str = UNKNOWN_TYPE,
    model: str | None = None,
    pool: str | None = None,
) -> Attached:
    """Attach an accelerator under the lowest free ordinal; an id that is attached keeps its own.

    Raises:
        AcceleratorUnavailable: `EIPACK_ACCELERATORS` lists the accelerators of this host.
        TrustStoreDamaged: The file cannot be read; it stays as it is.
        KeyUnavailable: The file may not be read or written.
        ValueError: The id is not one.
    """
    with _changing() as path:
        there = _read(path)
        kept = {one.id: one.ordinal for one in there}
        taken = set(kept.values())
        free = next(ordinal for ordinal in count() if ordinal not in taken)
        ordinal = kept.get(accelerator_id, free)
        files = files or Files()
        new = Attached(ordinal, accelerator_id, endpoint, type_name, model, files, pool)
        _write(path, [*(one for one in there if one.id != new.id), new])
    return new


def relocate(one: Attached, endpoint: Endpoint) -> None:
    """Record where an accelerator that a pool has lent is now, if it is still attached so.

    Raises:
        TrustStoreDamaged: The file cannot be read; it stays as it is.
        KeyUnavailable: The file may not be read or written.
    """
    with _changing() as path:
        there = _read(path)
        found = [each for each in there if (each.id, each.pool) == (one.id, one.pool)]
        if found:
            others = [each for each in there if each is not found[0]]
            _write(path, [*others, evolve(found[0], endpoint=endpoint)])


def detach(name: str | int) -> Attached:
    """Detach the accelerator with that ordinal or id; the others keep their ordinals.

    Raises:
        AcceleratorUnavailable: None has it, or `EIPACK_ACCELERATORS` lists the accelerators.
        TrustStoreDamaged: The file cannot be read; it stays as it is.
        KeyUnavailable: The file may not be read or written.
    """
    with _changing() as path:
        there = _read(path)
        gone = _find(name, there)
        _write(path, [one for one in there if one is not gone])
    return gone


def reorder(names: Sequence[str | int]) -> list[Attached]:
    """Renumber the accelerators from 0, in the order of these ordinals or ids.

    Raises:
        AcceleratorUnavailable: A name is unknown, or `EIPACK_ACCELERATORS` lists them.
        TrustStoreDamaged: The file cannot be read; it stays as it is.
        KeyUnavailable: The file may not be read or written.
        ValueError: One is named twice, or not at all.
    """
    with _changing() as path:
        there = _read(path)
        chosen = _chosen(names, there)
        missing = [one for one in there if one not in chosen]
        if missing:
            raise ValueError(f"name every accelerator; missing: {_told(missing)}")
        _write(path, _numbered(chosen))
    return _numbered(chosen)


def _find(name: str | int, there: Sequence[Attached]) -> Attached:
    text = str(name).strip().removeprefix("eia:")
    for one in there:
        if text == one.id or (text.isascii() and text.isdigit() and int(text) == one.ordinal):
            return one
    listed = f"attached: {_told(there)}" if there else "none is; see: eipack eia attach --help"
    raise AcceleratorUnavailable(f"accelerator {text[:80]!r} is not attached; {listed}")


def _chosen(names: Sequence[str | int], there: Sequence[Attached]) -> list[Attached]:
    chosen: list[Attached] = []
    for name in names:
        one = _find(name, there)
        if one in chosen:
            raise ValueError(f"{one} is named twice")
        chosen.append(one)
    return chosen


def _numbered(accelerators: Sequence[Attached]) -> list[Attached]:
    return [evolve(one, ordinal=ordinal) for ordinal, one in enumerate(accelerators)]


def _told(accelerators: Sequence[Attached]) -> str:
    return ", ".join(map(str, accelerators))


def _listed() -> str | None:
    return os.environ.get(ACCELERATORS, "").strip() or None


def _from_environment() -> list[Attached]:
    entries = [entry.strip() for entry in (_listed() or "").split(";") if entry.strip()]
    found: list[Attached] = []
    for ordinal, entry in enumerate(entries):
        try:
            found.append(_parsed(ordinal, entry))
            _check_once(found)
        except ValueError as error:
            raise AcceleratorUnavailable(
                f"{ACCELERATORS}, entry {ordinal + 1}: {error}; "
                f"write HOST:PORT[,token-file=F][,ca=F][,cert=F][,key=F][,id=ID][,model=NAME]"
            ) from error
    return found


def _check_once(accelerators: Sequence[Attached]) -> None:
    for name in ("ordinal", "id"):
        if len({getattr(one, name) for one in accelerators}) < len(accelerators):
            raise ValueError(f"one {name} is listed twice")


def _parsed(ordinal: int, entry: str) -> Attached:
    address, *options = (part.strip() for part in entry.split(","))
    given: dict[str, str] = {}
    for option in options:
        name, _, value = option.partition("=")
        # The value is not repeated: somebody may have put a token there.
        if name not in _OPTIONS or not value or name in given:
            what = "is given twice" if name in given else "is no option, or has no value"
            raise ValueError(f"{name[:20]!r} {what}")
        given[name] = value
    files = Files(*(expanded(given[n]) if n in given else None for n in _OPTIONS[:4]))
    endpoint = endpoint_for(address, files)
    model = given.get("model")
    return Attached(
        ordinal, given.get("id") or made_id(endpoint, model), endpoint, UNKNOWN_TYPE, model, files
    )


@contextmanager
def _changing() -> Iterator[Path]:
    """Hold the lock of the file that is yielded."""
    if _listed() is not None:
        raise AcceleratorUnavailable(
            f"{ACCELERATORS} lists the accelerators of this host; change it there, or unset it"
        )
    folder = config_folder()
    if folder is None:
        raise KeyUnavailable(f"there is no home folder to keep accelerators in; {_REMEDY}")
    refused = None
    with changing(folder, _REMEDY):
        try:
            yield folder / _FILE
        except AcceleratorUnavailable as error:
            refused = error  # an OSError by birth, which `changing` would take for one of writing
    if refused is not None:
        raise refused


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ordinal: Annotated[int, msgspec.Meta(ge=0)]
    id: str
    endpoint: str
    type: str
    model: str | None
    token_file: str | None
    ca: str | None
    certificate: str | None
    key: str | None
    pool: str | msgspec.UnsetType = msgspec.UNSET


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    accelerators: list[_Entry]


def _read(path: Path) -> list[Attached]:
    check_folder(path.parent, OURS_TO_WRITE, _REMEDY)
    data = read_guarded(path, OURS_TO_WRITE, _REMEDY)
    if data is None:
        return []
    try:
        return _decoded(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise TrustStoreDamaged(
            f"{path} is damaged ({type(error).__name__}: {error}) and was left as it is; "
            "repair it, or move it away and attach the accelerators again with `eipack eia attach`"
        ) from error


def _decoded(data: bytes) -> list[Attached]:
    document = msgspec.json.decode(data, type=_Document)
    if document.version != _VERSION:
        raise ValueError(f"version {document.version} is not known here")
    found = sorted(map(_attached, document.accelerators), key=lambda one: one.ordinal)
    _check_once(found)
    return found


def _attached(entry: _Entry) -> Attached:
    named = (entry.token_file, entry.ca, entry.certificate, entry.key)
    files = Files(*(None if name is None else Path(name) for name in named))
    endpoint = Endpoint.parse(entry.endpoint)
    pool = None if isinstance(entry.pool, msgspec.UnsetType) else entry.pool
    return Attached(entry.ordinal, entry.id, endpoint, entry.type, entry.model, files, pool)


def _write(path: Path, accelerators: Sequence[Attached]) -> None:
    entries = [_entry(one) for one in sorted(accelerators, key=lambda one: one.ordinal)]
    data = msgspec.json.encode(_Document(_VERSION, entries))
    write_whole(path, msgspec.json.format(data, indent=2) + b"\n")


def _entry(one: Attached) -> _Entry:
    token_file, ca, certificate, key = (
        None if file is None else str(file) for file in astuple(one.files)
    )
    pool = msgspec.UNSET if one.pool is None else one.pool
    where = str(one.endpoint)
    return _Entry(
        one.ordinal, one.id, where, one.type, one.model, token_file, ca, certificate, key, pool
    )
