"""From parts to a package file: manifest, members, signing."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from eipack.archive import Slot, Source, crc32_of, digest_bytes, lay_out, write_archive
from eipack.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    SAMPLES,
    WEIGHTS,
    Environment,
    Evidence,
    Manifest,
    MemberRecord,
    ProgramRecord,
    check_references,
)
from eipack.package.samples import encode_samples
from eipack.package.verified import SIGNING_PREFIX
from eipack.pool import Pool
from eipack.signature import Signature

if TYPE_CHECKING:
    from eipack.trust import SigningKey

_LIBRARIES = ("torchvision", "transformers", "onnx", "onnxscript", "safetensors")


@frozen(eq=False)
class Parts:
    """Everything a package is made of.

    `members` are the bytes of programs and assets by member name, `assets` maps a role to its
    file or folder, `samples` are tensors as `encode_samples` takes them.
    """

    name: str
    version: str | None
    signature: Signature
    programs: tuple[ProgramRecord, ...]
    members: Mapping[str, bytes]
    pool: Pool
    samples: Mapping[str, Any]
    assets: Mapping[str, str]
    evidence: tuple[Evidence, ...]
    narrowed: tuple[str, ...]


def write_package(
    path: str | os.PathLike[str],
    parts: Parts,
    key: SigningKey,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Write a signed package, whole or not at all.

    Raises:
        MalformedPackage: The parts contradict each other.
        PackageIOError: The file cannot be written.
    """
    from eipack.trust import sign_manifest

    contents = [Source.of_bytes(name, data) for name, data in sorted(parts.members.items())]
    contents.append(Source.of_bytes(SAMPLES, encode_samples(parts.samples)))
    contents.append(_weights(parts.pool))
    contents = [evolve(source, crc32=crc32_of(source)) for source in contents]
    manifest = Manifest(
        format="eipack",
        format_version=FORMAT_VERSION,
        name=parts.name,
        version=parts.version,
        signature=parts.signature,
        programs=tuple(count_bytes(record, parts.pool) for record in parts.programs),
        entries=tuple(parts.pool.entries),
        tensors=tuple(parts.pool.tensors),
        assets=dict(parts.assets),
        evidence=parts.evidence,
        narrowed=parts.narrowed,
        environment=environment(),
        members=tuple(_record(source) for source in contents),
    )
    check_references(manifest)
    data = manifest.to_json()
    signing = Source.of_bytes(signing_name(key.public.hint), sign_manifest(data, key))
    write_archive(path, [Source.of_bytes(MANIFEST, data), signing, *contents], progress=progress)
    return manifest


def signing_name(hint: str) -> str:
    """Return the member that holds the signing by a key."""
    return f"{SIGNING_PREFIX}{hint}.json"


def _weights(pool: Pool) -> Source:
    layout = lay_out(Slot(e.name, e.dtype, e.shape, e.nbytes) for e in pool.entries)
    buffers = [buffer for _, buffer in pool.buffers()]
    return Source(WEIGHTS, layout.total_size, lambda: layout.chunks(buffers))


def _record(source: Source) -> MemberRecord:
    digest = None
    if source.name != WEIGHTS:
        digest = digest_bytes(b"".join(bytes(chunk) for chunk in source.chunks()))
    return MemberRecord(source.name, source.size, crc32_of(source), digest)


def count_bytes(record: ProgramRecord, pool: Pool) -> ProgramRecord:
    """Say how many bytes of a program are shared and how many are its own."""
    bound = set(record.bindings.values())
    own = {name for name in bound if pool.users[name] == {record.id}}
    sizes = {entry.name: entry.nbytes for entry in pool.entries}
    return evolve(
        record,
        shared_bytes=sum(sizes[name] for name in bound - own),
        own_bytes=record.own_bytes + sum(sizes[name] for name in own),
    )


def environment() -> Environment:
    """Describe the libraries that make a package."""
    import torch

    from eipack import __version__

    return Environment(
        eipack=__version__,
        torch=str(torch.__version__),
        python=platform.python_version(),
        platform=f"{sys.platform}-{platform.machine()}",
        libraries=dict(_versions(_LIBRARIES)),
    )


def _versions(names: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in names:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
