"""Encrypted accelerators: the wrong certificate, no encryption, and a network that spoils bytes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from attrs import evolve, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from eipack_eia.attached import Files
from eipack_eia.client.connection import Pool
from eipack_eia.client.control import Control
from eipack_eia.credentials import Credentials

from eipack.errors import AcceleratorUnavailable, DeviceNotFound, EipackError

from .proxy import Fault, Proxy
from .rig import Local, accelerating, asked, exchange, obedient, right, session_at

pytestmark = pytest.mark.timeout(60)


@frozen
class Pem:
    """A certificate that signs itself, good for this host, and its key."""

    certificate: Path
    key: Path


def issue(folder: Path, name: str) -> Pem:
    """Make a certificate for 127.0.0.1 that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    made = Pem(folder / f"{name}.pem", folder / f"{name}.key")
    made.certificate.write_bytes(signed.public_bytes(pem))
    made.key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    for path in (made.certificate, made.key):
        path.chmod(0o600)
    return made


def token_in(folder: Path) -> Path:
    """Write a file with a token."""
    path = folder / "token"
    path.write_text("of-the-tests\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def package(folder: Path) -> Path:
    return obedient(folder)


@pytest.fixture(scope="module")
def local(folder: Path) -> Iterator[Local]:
    own, token = issue(folder, "server"), token_in(folder)
    files = Files(token_file=token, ca=own.certificate)
    given = {"cert": own.certificate, "key": own.key, "token_file": token}
    with accelerating(folder / "store", files=files, **given) as running:
        yield running


@pytest.fixture
def proxy(local: Local) -> Iterator[Proxy]:
    with Proxy(local.endpoint) as running:
        yield running


def pool(local: Local, credentials: Credentials) -> Pool:
    return Pool(local.endpoint, credentials, deadline_s=2)


def test_it_answers_right_with_its_authority_and_token(local: Local, package: Path) -> None:
    with session_at(local.endpoint, package, local.files) as session:
        for first in (1.5, 2.5):
            assert right(session(asked(first)), first)


def test_a_certificate_of_another_authority_is_not_accepted(
    local: Local, package: Path, tmp_path: Path
) -> None:
    files = Files(token_file=local.files.token_file, ca=issue(tmp_path, "stranger").certificate)
    with pytest.raises(EipackError, match=r"certificate.*--ca") as caught:
        with session_at(local.endpoint, package, files):
            pass
    assert isinstance(caught.value, AcceleratorUnavailable | DeviceNotFound)
    with pytest.raises(AcceleratorUnavailable, match=r"certificate.*--ca"):
        pool(local, files.credentials(local.endpoint)).exchange(lambda wire: None)


def test_the_authorities_of_the_system_are_not_enough(local: Local) -> None:
    with pytest.raises(AcceleratorUnavailable, match=r"certificate.*--ca"):
        Control(local.endpoint, Credentials(), timeout_s=5).json("GET", "v2")


def test_plaintext_to_tls_is_told_what_to_do(local: Local) -> None:
    plain = evolve(local.endpoint, scheme="http")
    with pytest.raises(EipackError, match="speaks TLS; attach it as https://"):
        Control(plain, timeout_s=5).json("GET", "v2")


def test_garbage_to_tls_is_hung_up_on(local: Local) -> None:
    exchange(local.endpoint, os.urandom(2000), end=True)
    assert local.control.json("GET", "v2")["name"] == "eipack-eia"


def test_one_that_never_shakes_hands_keeps_nobody_waiting(local: Local) -> None:
    here = local.endpoint
    with socket.create_connection((here.host, here.port)) as silent:
        silent.send(b"\x16")
        assert local.control.json("GET", "v2")["name"] == "eipack-eia"


def test_tls_to_plaintext_is_told_what_to_do(local: Local, tmp_path: Path) -> None:
    with accelerating(tmp_path, no_token=True) as plain:
        endpoint = evolve(plain.endpoint, scheme="https")
        with pytest.raises(AcceleratorUnavailable, match="does not speak TLS; attach it as http:"):
            Control(endpoint, local.credentials, timeout_s=5).json("GET", "v2")
        with pytest.raises(AcceleratorUnavailable, match="does not speak TLS; attach it as http:"):
            Pool(endpoint, local.credentials, 2).exchange(lambda wire: None)


@pytest.mark.parametrize("way", ["to_server", "to_client"])
@pytest.mark.parametrize("position", [0, 300, 1500])
def test_a_flipped_byte_is_a_typed_error_and_never_a_wrong_tensor(
    local: Local, proxy: Proxy, package: Path, way: str, position: int
) -> None:
    options = {"deadline_ms": 1500.0}
    with session_at(proxy.endpoint, package, local.files, **options) as session:
        assert right(session(asked(1.5)), 1.5)
        getattr(proxy, way).suffer(Fault(flip_at=position))
        with pytest.raises(EipackError):
            session(asked(2.5))
        assert getattr(proxy, way).happened.is_set()
        getattr(proxy, way).heal()
        assert right(session(asked(3.5)), 3.5)


def test_a_call_that_is_cut_is_a_typed_error_and_the_next_one_goes_on(
    local: Local, proxy: Proxy, package: Path
) -> None:
    with session_at(proxy.endpoint, package, local.files) as session:
        session(asked(1.5))
        proxy.to_client.suffer(Fault(cut_after=500))
        with pytest.raises(AcceleratorUnavailable):
            session(asked(2.5))
        assert right(session(asked(3.5)), 3.5)
