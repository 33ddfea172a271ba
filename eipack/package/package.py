"""A package file as an object: opened by its manifest, the rest read when asked for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eipack.archive import Archive, Source, write_archive
from eipack.errors import (
    EipackError,
    MalformedPackage,
    PackageIOError,
    ProgramNotFound,
    UntrustedPackage,
)
from eipack.manifest import MANIFEST, SAMPLES, Manifest, ProgramRecord
from eipack.package.stored import (
    StoredProgram,
    Weights,
    check_members,
    verified_member,
    verify_content,
)
from eipack.signature import Signature
from eipack.trust import PublicKey, Trust, resolve, signer_hint, verify_manifest

if TYPE_CHECKING:
    from torch import Tensor

_MANIFEST_LIMIT = 256 << 20


class Package:
    """An open package; nothing but the manifest is read until it is needed.

    One file descriptor is held until `close`, so a file that is replaced meanwhile makes
    no difference, and one that is written to in place is noticed.
    """

    def __init__(self, archive: Archive, manifest: Manifest) -> None:
        self._archive = archive
        self._keep: Any = None
        self._weights: Weights | None = None
        self.manifest = manifest

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Package:
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
        return self._archive.path

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return self._archive.size

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
        names = [name for name in self._archive.members if name.startswith("signing/")]
        return {name: self._archive.read(name) for name in names}

    def signers(self) -> list[str]:
        """Return the hints of the keys that claim to have signed; nothing is checked."""
        return [signer_hint(data) or "unreadable" for data in self.signings().values()]

    def check_trust(self, trust: Trust = None) -> PublicKey:
        """Return the trusted key that signed the manifest.

        Raises:
            UntrustedPackage: Nobody trusted has signed it.
            SigningInvalid: A signing does not match the manifest.
        """
        signings = self.signings()
        if not signings:
            raise UntrustedPackage(
                f"{self.path} is not signed; sign it with `eipack sign` where you trust its "
                "origin, or ask its maker to"
            )
        manifest = self.manifest.to_json()  # canonical, so these are the bytes that were read
        keys = resolve(trust)
        found: PublicKey | None = None
        refusal: UntrustedPackage | None = None
        for data in signings.values():
            try:
                found = verify_manifest(manifest, data, keys)
            except UntrustedPackage as error:
                refusal = error
        if found is None:
            hint = getattr(refusal, "key_id", "unknown")
            raise UntrustedPackage(
                f"{self.path} is signed by a key that is not trusted here ({hint[:16]}…); if you "
                "trust its owner, add their public key: eipack trust add KEY.pem",
                key_id=hint,
            )
        return found

    def verify(self, trust: Trust = None) -> PublicKey:
        """Check the signing and every digest; return the key that signed.

        Raises:
            UntrustedPackage: Nobody trusted has signed it.
            DigestMismatch: Something differs from its digest.
        """
        key = self.check_trust(trust)
        self.check_digests()
        return key

    def check_digests(self) -> None:
        """Hash everything and compare with the manifest.

        Raises:
            DigestMismatch: Something differs.
        """
        verify_content(self._archive, self.manifest)

    def read_program(self, record: ProgramRecord) -> StoredProgram:
        """Return a reader of a program whose trust has been checked; verifies the whole file.

        Raises:
            DigestMismatch: Something in the file differs from its digest.
        """
        if self._weights is None:
            for member in self.manifest.members:
                if member.digest is not None:
                    verified_member(self._archive, self.manifest, member.name)
            self._weights = Weights(self._archive, self.manifest)
        self._archive.check_unchanged()
        return StoredProgram(record, self.manifest, self._weights, self._archive)

    @property
    def mapped(self) -> bool:
        """Whether the weights of loaded programs are the file itself, mapped."""
        return self._weights is not None and self._weights.mapped

    def check_unchanged(self) -> None:
        """Notice that the file was written to in place.

        Raises:
            PackageChanged: It was.
        """
        self._archive.check_unchanged()

    def samples(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the example inputs and the model's outputs for them, in signature order.

        Raises:
            DigestMismatch: They differ from their digest.
        """
        from safetensors.torch import load

        stored = load(verified_member(self._archive, self.manifest, SAMPLES))
        inputs = [_sample(stored, f"input.{s.name}", s.dtype) for s in self.signature.inputs]
        outputs = [_sample(stored, f"output.{s.name}", s.dtype) for s in self.signature.outputs]
        return tuple(inputs), tuple(outputs)

    def asset(self, path: str) -> bytes:
        """Return an asset's verified bytes by its path under `assets/`.

        Raises:
            MalformedPackage: There is no such asset.
        """
        return verified_member(self._archive, self.manifest, f"assets/{path}")

    def asset_files(self, role: str) -> dict[str, str]:
        """Return the assets of a role: path relative to it, and path under `assets/`."""
        prefix = self.manifest.assets.get(role)
        if prefix is None:
            return {}
        names = [m.name.removeprefix("assets/") for m in self.manifest.members]
        return {
            name.removeprefix(prefix).removeprefix("/") or Path(name).name: name
            for name in names
            if name == prefix or name.startswith(prefix + "/")
        }

    def unpack_asset(self, role: str, folder: str | os.PathLike[str]) -> Path:
        """Write the files of a role into a folder, which is made.

        Raises:
            PackageIOError: A file cannot be written.
        """
        root = Path(folder)
        try:
            for relative, name in self.asset_files(role).items():
                target = root / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(self.asset(name))
        except OSError as error:
            raise PackageIOError(f"cannot write assets to {root}: {error.strerror}") from error
        return root

    def save(
        self, path: str | os.PathLike[str], progress: Callable[[int], None] | None = None
    ) -> Path:
        """Write the package to a file, whole or not at all; an existing one is replaced.

        Raises:
            PackageIOError: The file cannot be written.
        """
        self._archive.check_unchanged()
        head = [Source.of_bytes(MANIFEST, self.manifest.to_json())]
        head += [Source.of_bytes(name, data) for name, data in self.signings().items()]
        write_archive(path, [*head, *self.contents()], progress=progress)
        return Path(path)

    def contents(self) -> list[Source]:
        """Return the members that the manifest lists, as sources to write again."""
        sources = []
        for record in self.manifest.members:
            placed = self._archive.members[record.name]
            sources.append(
                Source.of_region(
                    record.name,
                    self._archive.fd,
                    placed.data_offset,
                    record.size,
                    crc32=record.crc32,
                )
            )
        return sources

    def extract(
        self, program: str, path: str | os.PathLike[str], *, trust: Trust = None
    ) -> Path:
        """Write a program as a standalone file: for torch.jit.load, torch.export.load, ONNX tools.

        Raises:
            ProgramNotFound: There is no such program, or its kind has no standalone form.
            UntrustedPackage: Nobody trusted has signed the package.
            PackageIOError: The file cannot be written.
        """
        from eipack.kinds import codec

        record = self.program(program)
        writer = codec(record.kind)
        self.check_trust(trust)
        reader = self.read_program(record)
        target = Path(path)
        return write_beside(
            target, lambda temporary: writer.extract(reader, self.samples()[0], temporary)
        )

    def keep(self, resource: Any) -> None:
        """Hold on to something (the folder of a temporary file) as long as this object lives."""
        self._keep = resource

    def close(self) -> None:
        """Let go of the file; loaded sessions keep what they have mapped."""
        self._archive.close()
        self._weights = None

    def __enter__(self) -> Package:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        kinds = ", ".join(record.id for record in self.programs)
        return f"<Package {self.name!r} [{kinds}] at {self.path}>"


def read_manifest(archive: Archive) -> Manifest:
    """Read the manifest and compare the members with it.

    Raises:
        MalformedPackage: They disagree.
    """
    placed = archive.members.get(MANIFEST)
    if placed is None or next(iter(archive.members)) != MANIFEST:
        raise MalformedPackage(f"{archive.path} is no eipack package: it begins with no manifest")
    if placed.member.size > _MANIFEST_LIMIT:
        raise MalformedPackage(f"{archive.path}: the manifest has {placed.member.size} bytes")
    manifest = Manifest.from_json(archive.read(MANIFEST))
    check_members(archive, manifest)
    return manifest


def _sample(stored: Mapping[str, Tensor], key: str, dtype: str) -> Tensor:
    import torch

    from eipack.dtypes import torch_dtype

    tensor = stored[key]
    return torch.view_as_complex(tensor) if torch_dtype(dtype).is_complex else tensor


def write_beside(path: Path, write: Callable[[Path], None]) -> Path:
    """Let a function write into a fresh folder beside `path`, then move the results there.

    Raises:
        PackageIOError: The folder or the file cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            temporary = Path(folder) / path.name
            write(temporary)
            for made in sorted(Path(folder).iterdir(), reverse=True):
                os.replace(made, path.with_name(made.name))
    except EipackError:
        raise
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise PackageIOError(f"cannot write {path}: {reason}", path=str(path)) from error
    return path
