"""What a package says of itself: the values behind `manifest.json`.

The JSON is canonical: reading it and writing it again gives the same bytes, and
a reader requires that, so nothing can hide in it. `docs/manifest.schema.json`
is generated from these classes.
"""

from __future__ import annotations

from typing import Any, Literal

from attrs import frozen

from eipack.errors import FormatVersionError, MalformedPackage
from eipack.signature import Signature

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
SAMPLES = "samples.safetensors"

Convention = Literal["flat", "native"]


@frozen
class MemberRecord:
    """A member of the archive; the weights have no digest here, their tensors have."""

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
    and the entries that it alone uses.
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
    lowest_torch: str
    lowest_python: str
    target: str | None = None


@frozen
class OutputError:
    """The largest difference of one output over a check; null where there was nothing to compare."""

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
        """Return the canonical JSON."""
        import msgspec

        return msgspec.json.encode(self, order="deterministic") + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read canonical JSON.

        Raises:
            FormatVersionError: The format is newer than this eipack.
            MalformedPackage: It is not a manifest, or not in canonical form.
        """
        import msgspec

        try:
            _check_version(msgspec.json.decode(data))
            manifest = msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedPackage(f"the manifest cannot be read: {error}") from error
        if manifest.to_json() != data:
            raise MalformedPackage("the manifest is not in canonical form")
        return manifest


def _check_version(head: Any) -> None:
    if not isinstance(head, dict) or head.get("format") != "eipack":
        raise MalformedPackage("the manifest is not one of an eipack package")
    version = head.get("format_version")
    if version != FORMAT_VERSION:
        raise FormatVersionError(
            f"the package has format version {version}, this eipack reads {FORMAT_VERSION}; "
            "update eipack: pip install -U eipack",
            version=version,
        )


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) of the manifest."""
    import msgspec

    return msgspec.json.schema(Manifest)
