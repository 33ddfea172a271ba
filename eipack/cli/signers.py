"""Who signed a package, and whether they are trusted here; nothing is loaded to find out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import asdict, frozen

from eipack.errors import SigningInvalid, TrustError, UntrustedPackage

if TYPE_CHECKING:
    from eipack.package import Package
    from eipack.trust import PublicKey


@frozen
class Signer:
    """One signing: by a trusted key (`key_id`, `label`), or why not (`problem`)."""

    hint: str
    key_id: str | None = None
    label: str | None = None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields, and whether the signer is trusted."""
        return {**asdict(self), "trusted": self.key_id is not None}


def signers(package: Package) -> list[Signer]:
    """Verify each signing of the manifest against the keys that this user trusts."""
    from eipack.trust import resolve, signer_hint

    keys, trouble = [], None
    try:
        keys = resolve(None)
    except TrustError as error:  # what the package holds can be shown all the same
        trouble = str(error)
    found = []
    for data in package.signings().values():
        hint = signer_hint(data) or "unreadable"
        found.append(_signer(package, data, hint, keys, trouble))
    return found


def _signer(
    package: Package, data: bytes, hint: str, keys: list[PublicKey], trouble: str | None
) -> Signer:
    from eipack.trust import verify_manifest

    try:
        key = verify_manifest(package.manifest.to_json(), data, keys)
    except UntrustedPackage:
        return Signer(hint, problem=trouble or "not trusted here")
    except SigningInvalid as error:
        return Signer(hint, problem=f"invalid: {error}")
    return Signer(hint, key.key_id, key.label or "a trusted key")
