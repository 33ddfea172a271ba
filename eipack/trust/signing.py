"""The signing of a package's manifest, in the OpenSSF model-signing format (OMS) v1.0.

A signing is a Sigstore bundle with a DSSE envelope, whose payload is an in-toto statement about
a folder that holds one file, `manifest.json`; the manifest holds the digests of everything else.
The library `model_signing` verifies these bundles and its own verify here. It is not used to do
so: importing it takes longer than loading most packages, and it brings some forty distributions.

Outside the payload, which the key signs, a bundle has exactly one spelling (`canonical_signing`)
and no other verifies, so no bit of a signing can change unnoticed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, NoReturn

from attrs import frozen

from eipack.errors import SigningInvalid, UntrustedPackage
from eipack.trust.keys import PublicKey, SigningKey, lower_s

if TYPE_CHECKING:
    from collections.abc import Iterable

_MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
_FILE: Final = "manifest.json"

_LARGEST_SIGNING_BYTES: Final = 64 << 10
_LONGEST_NAME: Final = 255


@frozen
class _Bundle:
    """What varies in a bundle."""

    hint: str
    payload: bytes
    signature: bytes

    def document(self) -> dict[str, Any]:
        return {
            "mediaType": _MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": self.hint}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": base64.b64encode(self.payload).decode(),
                "payloadType": _PAYLOAD_TYPE,
                "signatures": [{"sig": base64.b64encode(self.signature).decode(), "keyid": ""}],
            },
        }

    def canonical(self) -> bytes:
        return json.dumps(self.document(), separators=(",", ":")).encode()

    def signed_bytes(self) -> bytes:
        """Give the DSSE v1 pre-authentication encoding of the payload."""
        head = f"DSSEv1 {len(_PAYLOAD_TYPE)} {_PAYLOAD_TYPE} {len(self.payload)} "
        return head.encode() + self.payload


def sign_manifest(manifest: bytes, key: SigningKey) -> bytes:
    """Sign a manifest; the answer is a bundle in canonical form."""
    payload = json.dumps(_statement(manifest, "eipack", {}), indent=2).encode()
    unsigned = _Bundle(key.public.hint, payload, b"")
    return _Bundle(unsigned.hint, payload, key.sign(unsigned.signed_bytes())).canonical()


def verify_manifest(manifest: bytes, signing: bytes, keys: Iterable[PublicKey]) -> PublicKey:
    """Find which of `keys` signed exactly this manifest by exactly this signing.

    Raises SigningInvalid where the bundle is not a canonical signing of this manifest, or the
    signature is not by the key that it names; UntrustedPackage where that key is none of `keys`
    (its `key_id` is then the hint in the bundle, see `PublicKey.hint`: all that is known of it).
    """
    bundle = _parse(signing)
    if bundle.canonical() != signing:
        raise SigningInvalid("the signing is not in canonical form: it was changed, or is foreign")
    _check_statement(bundle.payload, manifest)
    key = next((key for key in keys if key.hint == bundle.hint), None)
    if key is None:
        raise UntrustedPackage(
            f"the package is signed by a key that is not trusted here (hint {bundle.hint}); "
            "if you trust its maker, ask them for the output of `eipack trust show` and run: "
            "eipack trust add KEY.pem",
            key_id=bundle.hint,
        )
    if not key.verify(bundle.signed_bytes(), bundle.signature):
        raise SigningInvalid(f"the signature is not by {key.key_id}, which the signing names")
    return key


def canonical_signing(signing: bytes) -> bytes:
    """Rewrite a bundle from elsewhere, as the library model_signing makes it, canonically.

    Packages hold only this form. Raises SigningInvalid; the signature itself is not verified.
    """
    return _parse(signing).canonical()


def signer_hint(signing: bytes) -> str | None:
    """Read which key a signing names (as `PublicKey.hint`), unverified; None if unreadable."""
    try:
        return _parse(signing).hint
    except SigningInvalid:
        return None


def _statement(manifest: bytes, name: str, options: dict[str, Any]) -> dict[str, Any]:
    digest = hashlib.sha256(manifest).digest()
    return {
        "_type": _STATEMENT_TYPE,
        # The library's root digest: SHA-256 over the digests of all files, here of one.
        "subject": [{"name": name, "digest": {"sha256": hashlib.sha256(digest).hexdigest()}}],
        "predicateType": _PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                **options,
            },
            "resources": [{"name": _FILE, "algorithm": "sha256", "digest": digest.hex()}],
        },
    }


def _parse(signing: bytes) -> _Bundle:
    if len(signing) > _LARGEST_SIGNING_BYTES:
        raise SigningInvalid(f"the signing is larger than {_LARGEST_SIGNING_BYTES} bytes")
    document = _strict_json(signing, "the signing")
    try:
        material, envelope = document["verificationMaterial"], document["dsseEnvelope"]
        (signature,) = envelope["signatures"]
        # Both may be left out by other writers, and say nothing where they are empty.
        material.setdefault("tlogEntries", [])
        signature.setdefault("keyid", "")
        bundle = _Bundle(
            material["publicKey"]["hint"],
            base64.b64decode(envelope["payload"], validate=True),
            lower_s(base64.b64decode(signature["sig"], validate=True)),
        )
        # The one field that canonical_signing may change: see lower_s.
        signature["sig"] = base64.b64encode(bundle.signature).decode()
        named = re.fullmatch(r"[0-9a-f]{64}", bundle.hint) is not None
    except (AttributeError, KeyError, TypeError, ValueError, binascii.Error) as error:
        raise SigningInvalid("the signing is not a Sigstore bundle with one EC key") from error
    if not named or document != bundle.document():
        raise SigningInvalid("the signing is not exactly one signature by an EC key in a bundle")
    return bundle


def _check_statement(payload: bytes, manifest: bytes) -> None:
    statement = _strict_json(payload, "the signed statement")
    if not isinstance(statement, dict) or statement.get("predicateType") != _PREDICATE_TYPE:
        raise SigningInvalid(f"the signed statement is not of the type {_PREDICATE_TYPE}")
    try:
        (subject,) = statement["subject"]
        name, predicate = subject["name"], statement["predicate"]
        options = _harmless_options(predicate["serialization"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SigningInvalid("the signed statement is not about one folder of files") from error
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        raise SigningInvalid("the signed statement gives its subject no usable name")
    if statement != _statement(manifest, name, options):
        raise SigningInvalid(f"what was signed is not this {_FILE}, alone and by SHA-256")


def _harmless_options(serialization: dict[str, Any]) -> dict[str, Any]:
    """Pick the options that cannot matter, as the set of files is fixed; raises ValueError.

    The library lists paths that it ignored: any are harmless but those that hold the manifest.
    """
    options: dict[str, Any] = {
        name: serialization[name]
        for name in ("allow_symlinks", "ignore_paths")
        if name in serialization
    }
    if options.get("allow_symlinks") not in (True, False):
        raise ValueError("allow_symlinks must be true or false")
    ignored = options.get("ignore_paths", [])
    if not isinstance(ignored, list) or any(_holds_manifest(path) for path in ignored):
        raise ValueError("ignore_paths must be a list of other files")
    return options


def _holds_manifest(ignored: str) -> bool:
    path = PurePosixPath(ignored)
    # `.` has no parts; where an absolute path or `..` leads is not known here.
    return path.is_absolute() or ".." in path.parts or path.parts in ((), (_FILE,))


def _strict_json(data: bytes, what: str) -> Any:
    try:
        # No number has a place in a signing, so none needs an agreed spelling.
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_int=_refuse,
            parse_float=_refuse,
            parse_constant=_refuse,
        )
    except (ValueError, RecursionError) as error:
        raise SigningInvalid(f"{what} is not JSON as the format has it") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name occurs twice")
    return names


def _refuse(_: str) -> NoReturn:
    raise ValueError("a number")
