"""A package file as an object: opened by its manifest, the rest read when asked for."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Self

from eipack.archive import Archive, Source, write_archive
from eipack.errors import PackageIOError, ProgramNotFound, UntrustedPackage
from eipack.manifest import MANIFEST, SAMPLES, WEIGHTS, Manifest, ProgramRecord
from eipack.package.beside import write_beside, write_folder
from eipack.package.stored import StoredProgram, Weights
from eipack.package.verified import (
    SIGNING_PREFIX,
    read_manifest,
    read_member,
    verify_members,
    verify_weights,
    weights_layout,
)
from eipack.signature import Signature
from eipack.trust import PublicKey, Trust, resolve, signer_hint, verify_manifest

if TYPE_CHECKING:
    from torch import Tensor


class Package:
    """An open package; nothing but the manifest is read until it is needed.

    One file descriptor is held until `close`, so a file that is replaced meanwhile makes
    no difference, and one that is written to in place is noticed. Methods may be called from
    several threads.
    """

    def __init__(self, archive: Archive, manifest: Manifest) -> None:
        self._file = archive
        self._weights: Weights | None = None
        self._loading = RLock()
        self._mapped = False
        self._closed = False
        self.manifest = manifest
        _packages.add(self)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open a package file and read its manifest; no code of the package runs.

        Raises:
            PackageIOError: The file cannot be read.
            MalformedPackage: It is no canonical package.
            FormatVersionError: It is of a later format.
        """
        archive = Archive.open(path)
        try:
            return cls(archive, read_manifest(archive))
        except BaseException:
            archive.close()
            raise

    @property
    def path(self) -> str:
        """The file's path as it was opened."""
        return self._file.path

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return self._file.size

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def version(self) -> str | None:
        """The model's version, if one was given."""
        return self.manifest.version

    @property
    def signature(self) -> Signature:
        """Names, dtypes, shapes and nesting of inputs and outputs."""
        return self.manifest.signature

    @property
    def programs(self) -> tuple[ProgramRecord, ...]:
        """The programs, the preferred first."""
        return self.manifest.programs

    def program(self, selector: str) -> ProgramRecord:
        """Find a program by id, by kind, or by the method that captured it.

        Raises:
            ProgramNotFound: None fits; the message lists those that are there.
        """
        for field in ("id", "kind", "method"):
            for record in self.programs:
                if getattr(record, field) == selector:
                    return record
        there = ", ".join(record.id for record in self.programs)
        raise ProgramNotFound(f"{self.path} has no program {selector!r}; it has {there}")

    def signings(self) -> dict[str, bytes]:
        """Return the signings by member name."""
        with self._archive() as archive:
            names = [name for name in archive.members if name.startswith(SIGNING_PREFIX)]
            return {name: archive.read(name) for name in names}

    def signers(self) -> list[str]:
        """Return the hints of the keys that claim to have signed; nothing is checked."""
        return [signer_hint(data) or "unreadable" for data in self.signings().values()]

    def check_trust(self, trust: Trust = None) -> PublicKey:
        """Return the trusted key that signed the manifest.

        `trust` limits the accepted signers to a key, the path of a PEM file, or a list of them.

        Raises:
            UntrustedPackage: Nobody trusted has signed it; it carries the `key_ids` that did.
            SigningInvalid: A signing does not match the manifest.
        """
        manifest = self.manifest.to_json()  # canonical, so these are the bytes that were read
        return check_signings(self.path, manifest, self.signings(), trust)

    def verify(self, trust: Trust = None) -> PublicKey:
        """Check the signing and every digest; return the key that signed.

        Raises:
            UntrustedPackage: Nobody trusted has signed it.
            SigningInvalid: A signing does not match the manifest.
            DigestMismatch: Something differs from its digest.
        """
        key = self.check_trust(trust)
        self.check_digests()
        return key

    def check_digests(self) -> None:
        """Hash everything and compare with the manifest, whoever signed that.

        Raises:
            DigestMismatch: Something differs.
        """
        with self._archive() as archive:
            verify_members(archive, self.manifest)
            verify_weights(archive, self.manifest)

    def _read_program(self, record: ProgramRecord) -> StoredProgram:
        """Return a reader of a program, the whole file being verified at the first call.

        Trust is not asked for: whoever loads what this gives calls `check_trust` before.

        Raises:
            DigestMismatch: Something in the file differs from its digest.
            PackageChanged: The file was written to since it was opened.
        """
        with self._loading:
            archive = self._archive()
            if self._weights is None:
                verify_members(archive, self.manifest)
                self._weights = Weights(archive, self.manifest)
                self._mapped = self._weights.mapped
            weights = self._weights
        archive.check_unchanged()
        return StoredProgram(record, self.manifest, weights, archive)

    @property
    def mapped(self) -> bool:
        """Whether the weights of loaded programs are the file itself, mapped."""
        return self._mapped

    def watch(self) -> Callable[[], None]:
        """Return a check that the file was not written to in place since it was opened.

        It raises PackageChanged, and works after `close`: it holds a file descriptor of its own
        until it is dropped.
        """
        archive = self._archive()
        archive.check_unchanged()
        return archive.check_unchanged

    def samples(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the example inputs and the model's outputs for them, in signature order.

        Raises:
            DigestMismatch: They differ from their digest.
            MalformedPackage: They are not those of the signature.
        """
        from eipack.package.samples import decode_samples

        return decode_samples(self._member(SAMPLES), self.signature)

    def asset(self, path: str) -> bytes:
        """Return an asset's verified bytes by its path under `assets/`.

        Raises:
            DigestMismatch: It differs from its digest.
            MalformedPackage: There is no such asset.
        """
        return self._member(f"assets/{path}")

    def asset_files(self, role: str) -> dict[str, str]:
        """Return the assets of a role: path relative to it, and path under `assets/`."""
        root = self.manifest.assets.get(role)
        if root is None:
            return {}
        names = [member.name.removeprefix("assets/") for member in self.manifest.members]
        files = {
            name.removeprefix(f"{root}/"): name for name in names if name.startswith(f"{root}/")
        }
        return files or {Path(root).name: root}

    def unpack_asset(
        self, role: str, folder: str | os.PathLike[str], *, trust: Trust = None
    ) -> Path:
        """Write the files of a role into a folder, which is made.

        Raises:
            UntrustedPackage: Nobody trusted has signed the package.
            DigestMismatch: A file differs from its digest.
            PackageIOError: A file cannot be written.
        """
        self.check_trust(trust)
        names = self.asset_files(role).items()
        return write_folder(Path(folder), {relative: self.asset(name) for relative, name in names})

    def save(
        self, path: str | os.PathLike[str], progress: Callable[[int], None] | None = None
    ) -> Path:
        """Write the package to a file, whole or not at all; an existing one is replaced.

        `progress` is told how many bytes are written so far.

        Raises:
            PackageIOError: The file cannot be written.
            PackageChanged: This package's own file was written to since it was opened.
        """
        return self.save_signed(path, self.signings(), progress)

    def save_signed(
        self,
        path: str | os.PathLike[str],
        signings: Mapping[str, bytes],
        progress: Callable[[int], None] | None = None,
    ) -> Path:
        """Write the package to a file with other signings, by member name, than it has.

        Raises:
            PackageIOError: The file cannot be written.
            PackageChanged: This package's own file was written to since it was opened.
        """
        sources = [Source.of_bytes(MANIFEST, self.manifest.to_json())]
        sources += [Source.of_bytes(name, signings[name]) for name in sorted(signings)]
        with self._archive() as archive:
            archive.check_unchanged()
            write_archive(path, [*sources, *self._contents(archive)], progress=progress)
        return Path(path)

    def _contents(self, archive: Archive) -> list[Source]:
        return [
            Source.of_region(
                record.name,
                archive.fd,
                archive.members[record.name].data_offset,
                record.size,
                crc32=record.crc32,
            )
            for record in self.manifest.members
        ]

    def spans(self) -> dict[str, tuple[int, int]]:
        """Return where the bytes of each digest lie, of members and of weights entries alike.

        Each value is an offset in the file and a size; nothing is read or verified.

        Raises:
            MalformedPackage: An entry has a size that its dtype and shape do not have.
        """
        offsets = weights_layout(self.manifest).offsets
        with self._archive() as archive:
            starts = {name: placed.data_offset for name, placed in archive.members.items()}
        found = {
            record.digest: (starts[record.name], record.size)
            for record in self.manifest.members
            if record.digest is not None
        }
        for entry, offset in zip(self.manifest.entries, offsets, strict=True):
            found[entry.digest] = (starts[WEIGHTS] + offset, entry.nbytes)
        return found

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill a view with bytes of the file; whoever they are for verifies them.

        Raises:
            MalformedPackage: The file is too short.
        """
        with self._archive() as archive:
            archive.pread_into(offset, view)

    def extract(self, program: str, path: str | os.PathLike[str], *, trust: Trust = None) -> Path:
        """Write a program as a standalone file: for torch.jit.load, torch.export.load, ONNX tools.

        Raises:
            ProgramNotFound: There is no such program, or its kind has no standalone form.
            UntrustedPackage: Nobody trusted has signed the package.
            DigestMismatch: Something in the package differs from its digest.
            PackageIOError: The file cannot be written.
        """
        from eipack.kinds import codec

        record = self.program(program)
        writer = codec(record.kind)
        self.check_trust(trust)
        reader = self._read_program(record)
        inputs, _ = self.samples()
        return write_beside(Path(path), lambda place: writer.extract(reader, inputs, place))

    def close(self) -> None:
        """Let go of the file; sessions that were loaded from it go on."""
        with self._loading:
            self._closed = True
            self._weights = None
            self._file.close()

    def _archive(self) -> Archive:
        """Give the file with a descriptor of its own, so that `close` meanwhile does no harm."""
        if self._closed:
            raise PackageIOError(f"{self.path} is closed; open it again", path=self.path)
        return self._file.duplicate()

    def _member(self, name: str) -> bytes:
        with self._archive() as archive:
            return read_member(archive, self.manifest, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        kinds = ", ".join(record.id for record in self.programs)
        return f"<Package {self.name!r} [{kinds}] at {self.path}>"


def check_signings(
    where: str, manifest: bytes, signings: Mapping[str, bytes], trust: Trust = None
) -> PublicKey:
    """Return the trusted key that signed a manifest, of a package that need not be here yet.

    `where` names the package in errors; `trust` is that of `Package.check_trust`.

    Raises:
        UntrustedPackage: Nobody trusted has signed it; it carries the `key_ids` that did.
        SigningInvalid: A signing does not match the manifest.
    """
    if not signings:
        raise UntrustedPackage(
            f"{where} is not signed; sign it with `eipack sign` where you trust its "
            "origin, or ask its maker to",
            key_ids=[],
        )
    keys = resolve(trust)
    found: list[PublicKey] = []
    for data in signings.values():
        try:
            found.append(verify_manifest(manifest, data, keys))
        except UntrustedPackage:
            continue
    if not found:
        hints = [signer_hint(data) or "unreadable" for data in signings.values()]
        short = " and ".join(hint[:16] for hint in hints)
        why = (
            "by a key that is not trusted here; if you trust its owner, add their public key: "
            "eipack trust add KEY.pem"
            if trust is None
            else "by none of the keys that were named to be trusted"
        )
        raise UntrustedPackage(f"{where} is signed as {short}, {why}", key_ids=hints)
    return found[0]


_packages: weakref.WeakSet[Package] = weakref.WeakSet()


def _renew_locks() -> None:
    """Forget, in a forked child, the locks of threads that only the parent has."""
    for package in list(_packages):
        package._loading = RLock()


os.register_at_fork(after_in_child=_renew_locks)
