"""The packages that an accelerator holds on its disk, and how they come there.

A client sends the manifest, learns which blobs are missing, sends those, and asks for the package
to be put together. What other packages here hold already is copied from them. The folder is all
there is to remember, so a store that was killed goes on where it was:

    packages/ID.eipack   whole and verified
    pending/ID.json      manifest and signings of what was begun
    blobs/               what was sent for those
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Final, Self

from eipack.archive import Source, write_archive
from eipack.archive.buffers import Buffer, as_bytes
from eipack.archive.faults import translated
from eipack.errors import (
    AcceleratorOverloaded,
    DigestMismatch,
    MalformedPackage,
    PackageError,
    ProtocolError,
)
from eipack.manifest import Manifest
from eipack.package.package import check_signings
from eipack.trust import Trust
from eipack_eia.blobs import Blob, Missing, Offer, blobs_of, is_digest, package_id
from eipack_eia.server.folder import claim, clear, named
from eipack_eia.server.rebuilding import Origin, file_size, sources
from eipack_eia.server.records import PACKAGE_SUFFIX, RECORD_SUFFIX, Pending, Record, Stored
from eipack_eia.server.uploads import Space, Uploads

__all__ = ["Missing", "Offer", "Store"]

_MOST_PENDING: Final = 1000
_ABANDONED_S: Final = 3600.0


class Store:
    """A folder of packages, for any number of threads of one process.

    Whoever begins or commits a package must have it signed by a key of `trust`; None means the
    keys that this user trusts. `limit_bytes` holds for all files together. While a package is
    put together it lies on the disk twice, once in blobs.
    """

    def __init__(self, folder: Path, limit_bytes: int, trust: Trust = None) -> None:
        """Open the folder, which is made if need be, and take stock of it.

        Raises:
            PackageIOError: It cannot be used, or another process uses it.
        """
        self._packages: dict[str, Stored] = {}
        self._pending: dict[str, Pending] = {}
        self._trust = trust
        # Guards everything but the long work of a commit.
        self._lock = threading.RLock()
        self._shelf, self._records = folder / "packages", folder / "pending"
        with translated(str(folder), "use"):
            for path in (self._shelf, self._records):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._release = weakref.finalize(self, os.close, claim(folder))
            self._space = Space(limit_bytes)
            self._uploads = Uploads(folder / "blobs", self._space)
            self._take_stock()

    def begin(self, manifest: bytes, signings: Mapping[str, bytes]) -> Offer:
        """Remember what a package is made of, and say which of that is missing.

        Raises:
            MalformedPackage: The manifest or the signings are not those of a package.
            FormatVersionError: The package is of a later format.
            UntrustedPackage: Nobody trusted has signed the manifest.
            SigningInvalid: A signing does not match it.
            AcceleratorFull: The package does not fit; carries `needed_bytes` and `free_bytes`.
            AcceleratorOverloaded: Too many uploads are under way.
            ProtocolError: Another upload gives one of the digests to something else.
        """
        parsed = Manifest.from_json(manifest)
        blobs = blobs_of(parsed)
        size = file_size(manifest, parsed, signings)
        check_signings(_title(parsed), manifest, signings, self._trust)
        package = package_id(manifest)
        encoded = Record.of(manifest, signings).encode()
        with self._lock:
            if package in self._packages:
                return Offer(package, ())
            self._check_announced(blobs.values())
            new = package not in self._pending
            pending = self._pending.setdefault(package, Pending(self._record(package), blobs))
            try:
                pending.touch()
                offer = Offer(package, tuple(self._missing(blobs.values())))
                self._make_room(size + offer.bytes_to_send + len(encoded))
                self._remember(pending, encoded)
            except BaseException:
                if new:
                    self._forget(package)
                raise
            return offer

    def append(self, digest: str, offset: int, data: Buffer) -> int:
        """Add bytes to a blob that a begun package needs; return how many of it are here.

        Raises:
            ProtocolError: Nobody needs it, there are too many bytes, or they do not begin at what
                is here; in both latter cases it carries `have`.
            AcceleratorFull: The store is full.
            DigestMismatch: The blob is complete and another than announced; it was thrown away.
            PackageIOError: The disk is full or broken.
        """
        with self._lock:
            waiting = [pending for pending in self._pending.values() if digest in pending.blobs]
            if not is_digest(digest) or not waiting:
                message = f"no package that was begun needs {digest[:80]!r}; begin one first"
                raise ProtocolError(message)
            for pending in waiting:
                pending.touch()
            return self._uploads.append(waiting[0].blobs[digest], offset, as_bytes(data))

    def commit(self, package: str) -> Path:
        """Put a begun package together, verify it, and return its file.

        Raises:
            ProtocolError: It was not begun, or blobs are missing; begin (again).
            AcceleratorFull: There is no room for the file.
            MalformedPackage: The manifest contradicts itself; the package was discarded.
            UntrustedPackage: Nobody trusted has signed the manifest; the file is not kept.
            SigningInvalid: A signing does not match it.
            PackageIOError: The disk is full or broken.
        """
        pending = self._pending.get(package)
        with _while_committing(pending):
            with self._lock:
                if package in self._packages:
                    return self._packages[package].path
                if pending is None or self._pending.get(package) is not pending:
                    message = f"no package {package[:80]!r} was begun here; begin it first"
                    raise ProtocolError(message)
                pending.touch()
            return self._put_together(package, pending)

    def path(self, package: str) -> Path | None:
        """Return the file of a package, if it is here and whole."""
        stored = self._packages.get(package)
        return None if stored is None else stored.path

    def packages(self) -> tuple[str, ...]:
        """Return the ids of the packages that are here and whole."""
        with self._lock:
            return tuple(self._packages)

    @property
    def used_bytes(self) -> int:
        """What all files of the store have together."""
        return self._space.used_bytes

    def discard(self, package: str) -> None:
        """Remove a package, or what was sent for it; sessions that have it open go on."""
        pending = self._pending.get(package)
        with _while_committing(pending), self._lock:
            if pending is not None and self._pending.get(package) is pending:
                self._forget(package)
            stored = self._packages.pop(package, None)
            if stored is not None:
                stored.path.unlink(missing_ok=True)
                self._space.give(stored.size)

    def close(self) -> None:
        """Let another process have the folder."""
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put_together(self, package: str, pending: Pending) -> Path:
        record = Record.read(pending.path)
        data, signings = record.manifest.encode(), record.signing_bytes()
        manifest = Manifest.from_json(data)
        check_signings(_title(manifest), data, signings, self._trust)
        path, size = self._shelf / (package + PACKAGE_SUFFIX), file_size(data, manifest, signings)
        draft = path.with_suffix(".draft")
        with ExitStack() as opened:
            with self._lock:
                origins, donors = self._origins(pending.blobs, opened)
                self._space.take(size)
            try:
                write_archive(draft, sources(data, manifest, signings, origins))
                stored = Stored.verified(draft, path)
                self._publish(package, draft, stored)
            except BaseException as error:
                draft.unlink(missing_ok=True)
                with self._lock:
                    self._space.give(size)
                    if isinstance(error, DigestMismatch | MalformedPackage):
                        raise self._explained(error, package, donors) from error
                raise
        return path

    def _publish(self, package: str, draft: Path, stored: Stored) -> None:
        with self._lock, translated(str(stored.path), "write"):
            draft.replace(stored.path)
            self._packages[package] = stored
            self._forget(package)

    def _explained(self, error: PackageError, package: str, donors: Iterable[str]) -> Exception:
        """Find out why a package is not what its blobs should make; remove what is damaged."""
        blobs = self._pending[package].blobs.values()
        damaged = [blob for blob in blobs if self._uploads.recheck(blob)]
        there = [donor for donor in donors if donor in self._packages]
        spoiled = [donor for donor in there if not self._packages[donor].is_intact()]
        for donor in spoiled:
            self.discard(donor)
        if damaged or spoiled:
            return ProtocolError(
                f"what was stored for package {package} was damaged and is removed; begin again"
            )
        self._forget(package)
        return MalformedPackage(f"package {package} contradicts its manifest: {error.message}")

    def _origins(
        self, blobs: Mapping[str, Blob], opened: ExitStack
    ) -> tuple[dict[str, Origin], set[str]]:
        """Say where each blob is read from, and which packages give some; their files are open."""
        found: dict[str, Origin] = {}
        files: dict[str, int] = {}
        for digest, blob in blobs.items():
            origin, donor = self._uploads.origin(blob), self._donor(blob)
            if origin is None and donor is not None:
                stored = self._packages[donor]
                if donor not in files:
                    files[donor] = os.open(stored.path, os.O_RDONLY | os.O_CLOEXEC)
                    opened.callback(os.close, files[donor])
                region = Source.of_region(digest, files[donor], stored.offsets[blob], blob.size)
                origin = region.chunks
            if origin is None:
                raise ProtocolError(f"{digest} is missing here; begin again and send it")
            found[digest] = origin
        return found, set(files)

    def _missing(self, blobs: Iterable[Blob]) -> Iterable[Missing]:
        for blob in blobs:
            if self._donor(blob) is None:
                have = self._uploads.have(blob)
                if have < blob.size:
                    yield Missing(blob.digest, blob.size, have)

    def _donor(self, blob: Blob) -> str | None:
        """Find a package that holds a blob."""
        return next((id_ for id_, stored in self._packages.items() if blob in stored.offsets), None)

    def _check_announced(self, blobs: Iterable[Blob]) -> None:
        """Refuse what would make one digest mean two things: one of the manifests lies."""
        for blob in blobs:
            for pending in self._pending.values():
                if pending.blobs.get(blob.digest, blob) != blob:
                    message = f"another upload says that {blob.digest} is something else"
                    raise ProtocolError(f"{message}; discard it, or wait until it is done")

    def _make_room(self, needed: int) -> None:
        if needed > self._space.free_bytes or len(self._pending) > _MOST_PENDING:
            latest = time.monotonic() - _ABANDONED_S
            for package, pending in list(self._pending.items()):
                if pending.touched < latest and not pending.committing.locked():
                    self._forget(package)
        if len(self._pending) > _MOST_PENDING:
            message = f"{_MOST_PENDING} uploads are under way at the accelerator; try again later"
            raise AcceleratorOverloaded(message)
        self._space.check(needed)

    def _remember(self, pending: Pending, encoded: bytes) -> None:
        before = pending.path.stat().st_size if pending.path.exists() else 0
        self._space.take(len(encoded) - before)
        try:
            pending.write(encoded)
        except BaseException:
            self._space.give(len(encoded) - before)
            raise

    def _forget(self, package: str) -> None:
        """Drop a package that was begun, and the blobs that no other one waits for."""
        pending = self._pending.pop(package)
        if pending.path.exists():
            self._space.give(pending.path.stat().st_size)
            pending.path.unlink()
        self._uploads.keep({digest for left in self._pending.values() for digest in left.blobs})

    def _record(self, package: str) -> Path:
        return self._records / (package + RECORD_SUFFIX)

    def _take_stock(self) -> None:
        """Find what is there, and clear away what a process left that was killed."""
        clear(self._shelf)
        clear(self._records)
        for path in named(self._shelf, PACKAGE_SUFFIX):
            if (stored := Stored.read(path)) is None:
                path.unlink()
                continue
            self._packages[path.stem] = stored
            self._space.used_bytes += stored.size
        for path in named(self._records, RECORD_SUFFIX):
            self._space.used_bytes += path.stat().st_size
            pending = Pending.read(path)
            self._pending[path.stem] = pending or Pending(path, {})
            if pending is None or path.stem in self._packages:
                self._forget(path.stem)
        self._uploads.keep({digest for left in self._pending.values() for digest in left.blobs})


def _while_committing(pending: Pending | None) -> AbstractContextManager[object]:
    return nullcontext() if pending is None else pending.committing


def _title(manifest: Manifest) -> str:
    return f"the uploaded package {manifest.name!r}"
