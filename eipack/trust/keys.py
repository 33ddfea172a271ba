"""EC P-256 keys: public ones to trust, and this user's own to sign with."""

from __future__ import annotations

import base64
import hashlib
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from eipack.errors import KeyUnavailable
from eipack.trust.folder import (
    NOT_FOR_ALL_TO_WRITE,
    OURS_TO_WRITE,
    PRIVATE,
    changing,
    check_folder,
    config_folder,
    expanded,
    read_guarded,
    write_whole,
)

if TYPE_CHECKING:
    from attrs import Attribute
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: TC004 - kept light

# RFC 5480: what precedes the uncompressed point in the SubjectPublicKeyInfo of a P-256 key.
_SPKI_PREFIX: Final = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
# The order of the group of P-256 (SEC 2, 2.4.2).
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

_REMEDY: Final = "set EIPACK_SIGNING_KEY to an unencrypted P-256 private key (PEM file or text)"
_MAKE: Final = "openssl ecparam -name prime256v1 -genkey -noout -out key.pem"


def _check_der(_: PublicKey, __: Attribute[bytes], der: bytes) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        if _spki(_p256(load_der_public_key(der))) == der:
            return
    except (ValueError, UnsupportedAlgorithm):
        pass
    raise KeyUnavailable("the bytes are not the SubjectPublicKeyInfo of an EC P-256 public key")


@frozen(repr=False)
class PublicKey:
    """An EC P-256 public key; equal to another with the same `der`, whatever their labels."""

    der: bytes = field(validator=_check_der)
    label: str | None = field(default=None, eq=False)

    @classmethod
    def from_pem(cls, pem: str | bytes, label: str | None = None) -> PublicKey:
        """Read one public key from PEM; raises KeyUnavailable."""
        text = pem.encode("utf-8", "surrogatepass") if isinstance(pem, str) else pem
        if b"PRIVATE KEY-----" in text:
            raise KeyUnavailable(
                "this is a private key, which nobody else should have; "
                "give the public one, as `eipack trust show` prints it"
            )
        if text.count(b"-----BEGIN ") != 1:
            raise KeyUnavailable("expected exactly one public key in PEM, as `eipack trust show`")
        return cls(_public_der(text), label)

    @classmethod
    def read(cls, path: str | os.PathLike[str], label: str | None = None) -> PublicKey:
        """Read one public key from a PEM file, labelled with the file's stem if not otherwise.

        Raises KeyUnavailable, also where everybody may write the file.
        """
        file = Path(path)
        remedy = "name a PEM file with an EC P-256 public key"
        data = read_guarded(file, NOT_FOR_ALL_TO_WRITE, remedy)
        if data is None:
            raise KeyUnavailable(f"{file} does not exist; {remedy}")
        try:
            return cls.from_pem(data, file.stem if label is None else label)
        except KeyUnavailable as error:
            raise KeyUnavailable(f"{file}: {error}") from error

    @property
    def pem(self) -> str:
        """The key as PEM, a line break at the end."""
        body = "\n".join(textwrap.wrap(base64.b64encode(self.der).decode(), 64))
        return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"

    @property
    def key_id(self) -> str:
        """`ec-p256:` and the first 32 hex digits of the SHA-256 of `der`."""
        return f"ec-p256:{hashlib.sha256(self.der).hexdigest()[:32]}"

    @property
    def hint(self) -> str:
        """The SHA-256 of `pem` in hex, by which a signing names its key (OpenSSF model-signing)."""
        return hashlib.sha256(self.pem.encode()).hexdigest()

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Tell whether `signature` (DER, ECDSA with SHA-256) is by this key over `data`."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        try:
            _p256(load_der_public_key(self.der)).verify(signature, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True

    def __repr__(self) -> str:
        return f"PublicKey({self.key_id!r}, label={self.label!r})"


@frozen(repr=False)
class SigningKey:
    """An EC P-256 private key, which never shows itself."""

    public: PublicKey
    _private: ec.EllipticCurvePrivateKey = field(eq=False)

    @classmethod
    def generate(cls) -> SigningKey:
        """Make a new random key."""
        from cryptography.hazmat.primitives.asymmetric import ec

        private = ec.generate_private_key(ec.SECP256R1())
        return cls(PublicKey(_spki(private.public_key())), private)

    @classmethod
    def from_pem(cls, pem: bytes, where: str = "the PEM text") -> SigningKey:
        """Read an unencrypted P-256 private key; raises KeyUnavailable, which names `where`."""
        private = _load_private(pem, where)
        return cls(PublicKey(_spki(private.public_key())), private)

    def sign(self, data: bytes) -> bytes:
        """Sign `data` by ECDSA with SHA-256: DER, in the form that `lower_s` gives."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        return lower_s(self._private.sign(data, ec.ECDSA(hashes.SHA256())))

    def _pem(self) -> bytes:
        from cryptography.hazmat.primitives import serialization

        return self._private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def __repr__(self) -> str:
        return f"SigningKey({self.public.key_id!r})"


def lower_s(signature: bytes) -> bytes:
    """Give the form of a P-256 signature with the smaller s, so that only the signer can vary it.

    Anybody can make (r, order - s) of a valid (r, s). Raises ValueError where it is not DER.
    """
    from cryptography.hazmat.primitives.asymmetric.utils import (
        decode_dss_signature,
        encode_dss_signature,
    )

    r, s = decode_dss_signature(signature)
    if not (0 < r < _ORDER and 0 < s < _ORDER):
        raise ValueError("r or s is out of range")
    return encode_dss_signature(r, min(s, _ORDER - s))


def own_key(*, create: bool) -> SigningKey | None:
    """Load this user's signing key; make it if `create`, else answer None where there is none.

    `EIPACK_SIGNING_KEY` (a path to a PEM file, or the PEM text) goes before `signing-key.pem` in
    the settings folder. Raises KeyUnavailable for a key that is there and cannot be used, and
    where none can be made.
    """
    value = os.environ.get("EIPACK_SIGNING_KEY")
    if value is not None:
        return _from_environment(value)
    path = own_key_path()
    if path is not None:
        return _stored(path) or (_create(path) if create else None)
    if create:
        raise KeyUnavailable(f"there is no home folder to keep a signing key in; {_REMEDY}")
    return None


def own_key_path() -> Path | None:
    """Name the file of this user's key; None if it is not a file or there is no home."""
    value = os.environ.get("EIPACK_SIGNING_KEY")
    if value is not None:
        return None if "-----BEGIN" in value else expanded(value)
    folder = config_folder()
    return None if folder is None else folder / "signing-key.pem"


def _from_environment(value: str) -> SigningKey:
    if not value.strip():
        raise KeyUnavailable(f"EIPACK_SIGNING_KEY is set but empty; unset it, or {_REMEDY}")
    if "-----BEGIN" in value:
        # Files of environment variables hold one line each, so line breaks come as \n in letters.
        text = value.replace("\\n", "\n").encode("utf-8", "surrogateescape")
        return SigningKey.from_pem(text, "the text in EIPACK_SIGNING_KEY")
    path = expanded(value)
    readable = os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for an overlong name
    data = read_guarded(path, PRIVATE, _REMEDY) if readable else None
    if data is None:
        # The value is not repeated: it may be a key that has lost its header.
        raise KeyUnavailable(f"EIPACK_SIGNING_KEY names no file that can be read; {_REMEDY}")
    return SigningKey.from_pem(data, f"{path} (from EIPACK_SIGNING_KEY)")


def _stored(path: Path) -> SigningKey | None:
    check_folder(path.parent, OURS_TO_WRITE, _REMEDY)
    data = read_guarded(path, PRIVATE, _REMEDY)
    return None if data is None else SigningKey.from_pem(data, str(path))


def _create(path: Path) -> SigningKey:
    with changing(path.parent, _REMEDY):
        key = _stored(path)
        if key is None:
            key = SigningKey.generate()
            write_whole(path, key._pem())
        return key


def _load_private(pem: bytes, where: str) -> ec.EllipticCurvePrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if b"PRIVATE KEY-----" not in pem:
        raise KeyUnavailable(f"{where} holds no private key in PEM; {_REMEDY}, made by: {_MAKE}")
    # Nothing is chained: a parser's message could quote what it read.
    problem = "is not a readable private key"
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        problem = "is encrypted, and eipack asks for no password"
    except (ValueError, UnsupportedAlgorithm):
        pass
    else:
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
            return key
        problem = "is no key on the curve P-256"
    raise KeyUnavailable(f"{where} {problem}; {_REMEDY}, made by: {_MAKE}")


def _public_der(pem: bytes) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return _spki(_p256(load_pem_public_key(pem)))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnavailable("this is not an EC P-256 public key in PEM") from error


def _p256(key: object) -> ec.EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise ValueError("not a P-256 key")


def _spki(key: ec.EllipticCurvePublicKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return _SPKI_PREFIX + key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
