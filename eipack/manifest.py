"""What a package says of itself: the values behind `manifest.json`.

The JSON is canonical: reading it and writing it again gives the same bytes, and
a reader requires that, so nothing can hide in it. `docs/manifest.schema.json`
is generated from these classes: `python -m eipack.manifest > docs/manifest.schema.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal

from attrs import frozen

from eipack.archive import CHUNK
from eipack.errors import FormatVersionError, MalformedPackage, PackageError
from eipack.signature import Signature
from eipack.tree import Tree

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
SAMPLES = "samples.safetensors"
_DEEPEST = 100
_TRUE_OR_ABSENT = "batch_independent"
"""A field of programs that is left out where it is false, and the only one that ever is."""

Convention = Literal["flat", "native"]


@frozen
class MemberRecord:
    """A member of the archive; the weights file has no digest here, its entries have."""

    name: str
    size: int
    crc32: int
    digest: str | None


@frozen
class Entry:
    """One run of bytes in the weights file: `dtype` and `shape` as safetensors has them.

    `chunks` are the BLAKE3 digests (hex) of each 8 MiB; `digest` is that of their concatenation.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    digest: str
    chunks: tuple[str, ...]


@frozen
class TensorRecord:
    """A parameter or buffer of the model: a strided view of an entry.

    `offset` and `strides` count elements of `dtype` (torch's name). Tied tensors
    name the same entry.
    """

    name: str
    entry: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


@frozen
class ProgramRecord:
    """One program: what made it, its members and the weights entries it binds.

    `convention` is `flat` (tensors in signature order; one output alone, several in a
    tuple) or `native` (the model's own call). `bindings` maps the program's keys
    to entries. `attributes` are the backend's own. `shared_bytes` of its entries
    also serve the model's tensors or another program, `own_bytes` are its members
    and the entries that it alone uses. `lowest_torch` (`major.minor`) is null where no torch is
    needed. `target` is that of a compiled program, null for a portable one.
    `batch_independent` says that each row of a batch on axis 0 was shown to give what it gives
    alone, so that several calls may run as one batch; where that is not so, it is left out.
    """

    id: str
    kind: str
    method: str
    convention: Convention
    members: tuple[str, ...]
    bindings: dict[str, str]
    attributes: dict[str, str]
    shared_bytes: int
    own_bytes: int
    lowest_torch: str | None
    lowest_python: str
    target: str | None = None
    batch_independent: bool = False


@frozen
class OutputError:
    """The largest differences of one output in a check; null where there was nothing to compare."""

    name: str
    max_abs: float | None
    max_rel: float | None
    rtol: float
    atol: float


@frozen
class Check:
    """One comparison of a program with the model: inputs drawn with `seed` at `dims`."""

    dims: dict[str, int]
    seed: int | None
    inputs: dict[str, tuple[int, ...]]
    outputs: tuple[OutputError, ...]


@frozen
class Evidence:
    """How one program was shown to agree, against `reference` (`eager` or `itself`)."""

    program: str
    reference: Literal["eager", "itself"]
    target: str
    checks: tuple[Check, ...]


@frozen
class Environment:
    """Where the package was made."""

    eipack: str
    torch: str
    python: str
    platform: str
    libraries: dict[str, str]


@frozen
class Manifest:
    """Everything a reader needs before it touches another member."""

    format: Literal["eipack"]
    format_version: int
    name: str
    version: str | None
    signature: Signature
    programs: tuple[ProgramRecord, ...]
    entries: tuple[Entry, ...]
    tensors: tuple[TensorRecord, ...]
    assets: dict[str, str]
    evidence: tuple[Evidence, ...]
    narrowed: tuple[str, ...]
    environment: Environment
    members: tuple[MemberRecord, ...]

    def to_json(self) -> bytes:
        """Return the canonical JSON, as Python's `json.dumps` spells it, with sorted keys.

        Not as msgspec spells it, which may change with its version.
        """
        import msgspec

        plain = msgspec.to_builtins(self)
        for program in plain["programs"]:
            if not program[_TRUE_OR_ABSENT]:  # older packages do not have it
                del program[_TRUE_OR_ABSENT]
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read canonical JSON.

        Raises:
            FormatVersionError: The format is newer than this eipack.
            MalformedPackage: It is not a manifest, not in canonical form, or contradicts itself.
        """
        import msgspec

        try:
            _check_version(msgspec.json.decode(data))
            manifest = msgspec.json.decode(data, type=cls)
            canonical = manifest.to_json()
        except PackageError:
            raise
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise MalformedPackage(f"the manifest cannot be read: {error}") from error
        if canonical != data:
            raise MalformedPackage("the manifest is not in canonical form")
        check_references(manifest)
        return manifest


def _check_version(head: Any) -> None:
    if not isinstance(head, dict) or head.get("format") != "eipack":
        raise MalformedPackage("the manifest is not one of an eipack package")
    version = head.get("format_version")
    if version != FORMAT_VERSION:
        raise FormatVersionError(
            f"the package has format version {version!r}, this eipack reads {FORMAT_VERSION}; "
            "update eipack: pip install -U eipack",
            version=version,
        )


def check_references(manifest: Manifest) -> None:
    """Hold names to one meaning each, and to what they name being there.

    Raises:
        MalformedPackage: One name has two meanings, or none.
    """
    members = _unique("members", (member.name for member in manifest.members))
    entries = _unique("entries", (entry.name for entry in manifest.entries))
    programs = _unique("programs", (program.id for program in manifest.programs))
    _unique("tensors", (tensor.name for tensor in manifest.tensors))
    _unique("inputs", (spec.name for spec in manifest.signature.inputs))
    _unique("outputs", (spec.name for spec in manifest.signature.outputs))
    _check_nesting([manifest.signature.input_tree, manifest.signature.output_tree])
    _known("members", [WEIGHTS, SAMPLES], members)
    _known("entries", [tensor.entry for tensor in manifest.tensors], entries)
    _known("programs", [evidence.program for evidence in manifest.evidence], programs)
    for program in manifest.programs:
        _known("members", program.members, members)
        _known("entries", program.bindings.values(), entries)
        if not all(name.startswith(f"programs/{program.id}/") for name in program.members):
            raise MalformedPackage(f"program {program.id!r} lists members of another one")
    for member in manifest.members:
        if (member.digest is None) != (member.name == WEIGHTS):
            raise MalformedPackage(f"{member.name!r} must have a digest unless it is {WEIGHTS}")
    for entry in manifest.entries:
        if entry.nbytes < 0 or len(entry.chunks) != -(-entry.nbytes // CHUNK):
            raise MalformedPackage(f"the entry {entry.name!r} has {len(entry.chunks)} chunks")


def _check_nesting(level: list[Tree]) -> None:
    for _ in range(_DEEPEST):
        if any(tree.keys and len(tree.keys) != len(tree.children) for tree in level):
            raise MalformedPackage("a nesting of the signature has other keys than children")
        level = [child for tree in level for child in tree.children]
    if level:
        raise MalformedPackage(f"inputs or outputs are nested more than {_DEEPEST} deep")


def _unique(what: str, names: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise MalformedPackage(f"the manifest lists {name!r} twice among its {what}")
        seen.add(name)
    return seen


def _known(what: str, names: Iterable[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            raise MalformedPackage(f"the manifest names {name!r}, which is none of its {what}")


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of the manifest."""
    import msgspec

    schema = msgspec.json.schema(Manifest)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    for definition in schema["$defs"].values():
        definition["description"] = " ".join(definition.get("description", "").split())
        definition["additionalProperties"] = False
        definition["required"] = list(definition["properties"])
    program = schema["$defs"]["ProgramRecord"]
    program["required"].remove(_TRUE_OR_ABSENT)
    program["properties"][_TRUE_OR_ABSENT] = {"const": True}
    return schema


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))  # noqa: T201
