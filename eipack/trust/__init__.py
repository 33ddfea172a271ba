"""Keys, the signing of a manifest, and whom this user trusts."""

from eipack.trust.keys import PublicKey, SigningKey, own_key
from eipack.trust.signing import (
    canonical_signing,
    sign_manifest,
    signer_hint,
    verify_manifest,
)
from eipack.trust.store import Trust, TrustedKey, add, remove, resolve, trusted_keys

__all__ = [
    "PublicKey",
    "SigningKey",
    "Trust",
    "TrustedKey",
    "add",
    "canonical_signing",
    "own_key",
    "remove",
    "resolve",
    "sign_manifest",
    "signer_hint",
    "trusted_keys",
    "verify_manifest",
]
