"""Sign and verify package files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from eipack.errors import KeyUnavailable
from eipack.package import Package
from eipack.package.assembly import signing_name
from eipack.trust import PublicKey, SigningKey, Trust, own_key, sign_manifest


def sign(path: str | os.PathLike[str], *, key: SigningKey | None = None) -> PublicKey:
    """Add this user's signing (or another key's) to a package file; return the public key.

    Everything is verified against the manifest first: what is signed is what it says. The file
    is replaced whole, and keeps its mode.

    Raises:
        DigestMismatch: The package differs from its own manifest.
        KeyUnavailable: There is no usable signing key.
        PackageIOError: The file cannot be written.
    """
    signer = key or signing_key()
    file = Path(path).resolve()
    with Package.open(path) as package:
        package.check_digests()
        signing = sign_manifest(package.manifest.to_json(), signer)
        mode = stat.S_IMODE(file.stat().st_mode)
        package.save_signed(file, {**package.signings(), signing_name(signer.public.hint): signing})
        file.chmod(mode)
    return signer.public


def verify(path: str | os.PathLike[str], *, trust: Trust = None) -> PublicKey:
    """Check the signing and every digest of a package file; return the key that signed.

    Raises:
        UntrustedPackage: Nobody trusted has signed it.
        SigningInvalid: A signing does not match the manifest.
        DigestMismatch: Something differs from its digest.
        MalformedPackage: The file is no canonical package.
    """
    with Package.open(path) as package:
        return package.verify(trust)


def signing_key() -> SigningKey:
    """Return this user's signing key, made at its first use.

    Raises:
        KeyUnavailable: It can be neither read nor made.
    """
    key = own_key(create=True)
    if key is None:
        raise KeyUnavailable("there is no signing key; set EIPACK_SIGNING_KEY to a PEM file")
    return key
