"""A certificate for 127.0.0.1 and a token, for the accelerator that speaks TLS."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from secrets import token_urlsafe

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@frozen
class Secrets:
    """The files that `eipack eia serve` and its clients are given."""

    certificate: Path
    key: Path
    token: Path


def make(folder: Path) -> Secrets:
    """Write a key, a certificate that is good for a day, and a token."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    secrets = Secrets(folder / "cert.pem", folder / "key.pem", folder / "token")
    key = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    _write(secrets.key, key.private_bytes(*form, plain))
    _write(secrets.certificate, _signed(key).public_bytes(serialization.Encoding.PEM))
    _write(secrets.token, f"{token_urlsafe(32)}\n".encode())
    return secrets


def _signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmarks/wire.py")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def _write(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(data)
