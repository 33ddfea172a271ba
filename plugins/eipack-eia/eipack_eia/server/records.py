"""What a store knows of its packages: of those that are here, and of those that were begun."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from attrs import define, field, frozen

from eipack.archive.faults import translated
from eipack.errors import MalformedPackage, PackageError
from eipack.manifest import Manifest
from eipack.package import Package
from eipack_eia.blobs import Blob, blobs_of, package_id

RECORD_SUFFIX: Final = ".json"
PACKAGE_SUFFIX: Final = ".eipack"


@frozen
class Stored:
    """A package that is here; `offsets` are those of its blobs in the file."""

    path: Path
    size: int
    offsets: Mapping[Blob, int]

    @classmethod
    def of(cls, path: Path, package: Package) -> Stored:
        """Describe a package for when it lies at a path."""
        spans, blobs = package.spans(), blobs_of(package.manifest)
        return cls(path, package.size, {b: spans[digest][0] for digest, b in blobs.items()})

    @classmethod
    def read(cls, path: Path) -> Stored | None:
        """Read a file that was written before; None if it is not what its name says.

        Raises:
            PackageIOError: It cannot be read.
        """
        try:
            with Package.open(path) as package:
                named = package_id(package.manifest.to_json()) == path.stem
                return cls.of(path, package) if named else None
        except (MalformedPackage, ValueError):  # a later format is a ValueError too
            return None

    @classmethod
    def verified(cls, draft: Path, path: Path) -> Stored:
        """Hash a file that was just written, and describe it for when it lies at `path`.

        Raises:
            DigestMismatch: It is not what its manifest says.
            MalformedPackage: It is no package.
        """
        with Package.open(draft) as package:
            package.check_digests()
            return cls.of(path, package)

    def is_intact(self) -> bool:
        """Hash the file again."""
        try:
            with Package.open(self.path) as package:
                package.check_digests()
        except PackageError:
            return False
        return True


@frozen
class Record:
    """The manifest and the signings of a package that was begun, as on disk."""

    manifest: str
    signings: dict[str, str]

    @classmethod
    def of(cls, manifest: bytes, signings: Mapping[str, bytes]) -> Record:
        """Make a record of bytes that were found to be text."""
        return cls(manifest.decode(), {name: data.decode() for name, data in signings.items()})

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read a record.

        Raises:
            MalformedPackage: It is none.
            PackageIOError: It cannot be read.
        """
        with translated(str(path), "read"):
            data = path.read_bytes()
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, ValueError) as error:
            raise MalformedPackage(f"{path} is no record of an upload: {error}") from error

    def encode(self) -> bytes:
        """Return what is written."""
        return msgspec.json.encode(self)

    def signing_bytes(self) -> dict[str, bytes]:
        """Return the signings as the package has them."""
        return {name: text.encode() for name, text in self.signings.items()}


@define(eq=False)
class Pending:
    """A package that was begun, by what it needs; `committing` is held while it is written."""

    path: Path
    blobs: Mapping[str, Blob]
    touched: float = field(factory=time.monotonic)
    committing: threading.Lock = field(factory=threading.Lock)

    @classmethod
    def read(cls, path: Path) -> Pending | None:
        """Read what was begun before; None if it is not what its name says."""
        try:
            manifest = Record.read(path).manifest.encode()
            blobs = blobs_of(Manifest.from_json(manifest))
        except PackageError:
            return None
        return cls(path, blobs) if package_id(manifest) == path.stem else None

    def touch(self) -> None:
        """Note that somebody works on it."""
        self.touched = time.monotonic()

    def write(self, encoded: bytes) -> None:
        """Write the record, whole or not at all.

        Raises:
            PackageIOError: It cannot be written.
        """
        draft = self.path.with_suffix(".draft")
        with translated(str(self.path), "write"):
            try:
                fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                with os.fdopen(fd, "wb") as file:
                    file.write(encoded)
                draft.replace(self.path)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
