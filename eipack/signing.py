"""Sign and verify package files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from eipack.errors import KeyUnavailable
from eipack.package import Package
from eipack.package.assembly import add_signing, signing_name
from eipack.trust import PublicKey, SigningKey, Trust, own_key, sign_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping


def sign(path: str | os.PathLike[str], *, key: SigningKey | None = None) -> PublicKey:
    """Add this user's signing (or another key's) to a package file; return the public key.

    Everything is verified against the manifest first: what is signed is what it says.

    Raises:
        DigestMismatch: The package differs from its own manifest.
        KeyUnavailable: There is no usable signing key.
        PackageIOError: The file cannot be written.
    """
    signer = key or signing_key()
    with Package.open(path) as package:
        package.check_digests()
        manifest = package.manifest.to_json()
        signings: Mapping[str, bytes] = {
            signing_name(signer.public.hint): sign_manifest(manifest, signer)
        }
        add_signing(package, signings, Path(path))
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
