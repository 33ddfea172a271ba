"""What a client shows to an accelerator: where it is found, and which files are refused."""

import os
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from eipack_eia.credentials import (
    Credentials,
    credentials_from,
    is_loopback,
    local_token_file,
    local_token_path,
    read_token,
    tls_error,
)
from eipack_eia.endpoint import Endpoint

from eipack.errors import AcceleratorDenied, AcceleratorUnavailable, KeyUnavailable

SECRET = "correct-horse-battery-staple"
HERE = Endpoint("127.0.0.1", 8470)


def private(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Make a certificate with its key, the key under a password, and a key of another."""
    folder = tmp_path_factory.mktemp("made")
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )

    def pem(of, encryption):
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
        return of.private_bytes(*form, encryption)

    plain = serialization.NoEncryption()
    private(folder / "cert.pem", certificate.public_bytes(serialization.Encoding.PEM))
    private(folder / "key.pem", pem(key, plain))
    private(folder / "other.pem", pem(other, plain))
    private(folder / "locked.pem", pem(key, serialization.BestAvailableEncryption(b"word")))
    both = (folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes()
    private(folder / "both.pem", both)
    return folder


@pytest.fixture
def left(fresh_home):
    """Leave a token for an accelerator on this host."""
    path = local_token_path(HERE)
    assert path is not None
    return private(path, f"{SECRET}\n")


class TestTokenFile:
    def test_the_first_line_is_the_token(self, tmp_path):
        assert read_token(private(tmp_path / "token", f"{SECRET}\n")) == SECRET

    def test_a_file_of_the_accelerator_serves_the_client_too(self, tmp_path):
        text = f"# für alle\n\n  {SECRET} infer\r\nanother-token upload\n"
        assert read_token(private(tmp_path / "token", text)) == SECRET

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(KeyUnavailable, match=r"there is no file .*token.*; name a file"):
            read_token(tmp_path / "token")

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
    def test_a_file_that_others_can_read_is_refused(self, tmp_path, mode):
        file = private(tmp_path / "token", SECRET)
        file.chmod(mode)
        with pytest.raises(KeyUnavailable, match="chmod 600") as caught:
            read_token(file)
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize("text", ["", "\n", " \t\n", "# only a comment\n"])
    def test_a_file_without_a_token_is_refused(self, tmp_path, text):
        with pytest.raises(KeyUnavailable, match="holds no token"):
            read_token(private(tmp_path / "token", text))

    @pytest.mark.parametrize("mark", [b"\x00", b"\x1b", b"\x7f", b"\xc3\xbc", b"\xff", b"\xa0"])
    def test_what_is_not_printable_is_refused_and_never_shown(self, tmp_path, mark):
        file = private(tmp_path / "token", SECRET.encode() + mark + b"rest")
        with pytest.raises(KeyUnavailable, match=r"line 1 of .* is not printable") as caught:
            read_token(file)
        assert SECRET not in repr(caught.value)
        assert caught.value.__cause__ is caught.value.__context__ is None

    def test_a_folder_is_refused(self, tmp_path):
        with pytest.raises(KeyUnavailable, match="Is a directory"):
            read_token(tmp_path)


class TestLocalToken:
    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1"])
    def test_it_is_found_by_each_name_of_the_host(self, left, host):
        assert local_token_file(Endpoint(host, 8470)) == left

    def test_it_is_found_over_tls_too(self, left):
        assert local_token_file(Endpoint("127.0.0.1", 8470, "https")) == left

    def test_localhost_may_be_the_newer_loopback(self, fresh_home):
        path = private(local_token_path(Endpoint("::1", 8470)), SECRET)
        assert local_token_file(Endpoint("localhost", 8470)) == path
        assert local_token_file(Endpoint("0:0::1", 8470)) == path
        assert local_token_file(HERE) is None

    @pytest.mark.parametrize(
        "endpoint",
        [
            Endpoint("127.0.0.1", 8471),
            Endpoint("127.0.0.2", 8470),
            Endpoint("gpu1.example", 8470),
            Endpoint("10.0.0.1", 8470),
            Endpoint("127.0.0.1", 8470, "oip+http"),
            Endpoint("127.0.0.1", 8470, "triton+http"),
        ],
        ids=str,
    )
    def test_nobody_else_gets_it(self, left, endpoint):
        assert local_token_file(endpoint) is None
        assert credentials_from(None, None, None, None, endpoint).token is None

    def test_there_is_none_without_a_home(self, monkeypatch):
        for name in ("EIPACK_CONFIG_DIR", "XDG_CONFIG_HOME", "HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)
        assert local_token_path(HERE) is None
        assert local_token_file(HERE) is None

    def test_credentials_find_it_by_themselves(self, left):
        assert credentials_from(None, None, None, None, HERE) == Credentials(SECRET)

    def test_a_named_file_goes_before_it(self, left, tmp_path):
        file = private(tmp_path / "token", "another-token")
        assert credentials_from(file, None, None, None, HERE).token == "another-token"

    def test_one_that_others_can_read_is_refused_by_name(self, left):
        left.chmod(0o644)
        with pytest.raises(KeyUnavailable, match=str(left)):
            credentials_from(None, None, None, None, HERE)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("127.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
    ],
)
def test_loopback_is_told_by_the_name_alone(host, expected):
    assert is_loopback(host) is expected


def test_the_token_is_in_no_repr(tmp_path):
    file = private(tmp_path / "token", SECRET)
    assert SECRET not in repr(credentials_from(file, None, None, None, HERE))


def test_a_key_alone_is_refused(tmp_path):
    with pytest.raises(KeyUnavailable, match="without a certificate"):
        credentials_from(None, None, None, tmp_path / "key.pem", HERE)


class TestContext:
    def test_it_checks_certificate_and_host_name(self):
        context = Credentials().context()
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2

    def test_the_system_decides_without_a_ca(self, made, monkeypatch):
        monkeypatch.setenv("SSL_CERT_FILE", str(made / "cert.pem"))
        assert trusted(Credentials().context()) == 1

    def test_a_ca_file_may_have_comments_in_any_script(self, made, tmp_path):
        file = private(tmp_path / "ca.pem", "# Prüfstelle\n".encode())
        file.write_bytes(file.read_bytes() + (made / "cert.pem").read_bytes())
        assert trusted(Credentials(ca=file).context()) == 1

    def test_certificate_and_key_may_lie_in_one_file(self, made):
        assert Credentials(certificate=made / "both.pem").context()

    def test_a_group_may_read_the_key(self, made, tmp_path):
        file = private(tmp_path / "key.pem", (made / "key.pem").read_bytes())
        file.chmod(0o640)
        assert Credentials(certificate=made / "cert.pem", key=file).context()

    @pytest.mark.parametrize("content", [None, b"", b"nonsense", b"\xff\x00", "key.pem"])
    def test_a_ca_that_is_none_is_named(self, made, tmp_path, content):
        file = tmp_path / "ca.pem"
        if content is not None:
            private(file, (made / content).read_bytes() if content == "key.pem" else content)
        with pytest.raises(KeyUnavailable, match=str(file)):
            Credentials(ca=file).context()

    def test_a_ca_that_everybody_may_write_is_refused(self, made, tmp_path):
        file = private(tmp_path / "ca.pem", (made / "cert.pem").read_bytes())
        file.chmod(0o666)
        with pytest.raises(KeyUnavailable, match=str(file)):
            Credentials(ca=file).context()

    @pytest.mark.parametrize(
        ("certificate", "key", "blamed"),
        [
            ("none.pem", "key.pem", "none.pem"),
            ("key.pem", "key.pem", "key.pem"),
            ("cert.pem", "none.pem", "none.pem"),
            ("cert.pem", "cert.pem", "cert.pem"),
            ("cert.pem", "other.pem", "other.pem is no key for the certificate"),
            ("cert.pem", "locked.pem", "locked.pem is encrypted"),
            ("cert.pem", None, "cert.pem"),
        ],
    )
    def test_the_file_at_fault_is_named(self, made, certificate, key, blamed):
        given = Credentials(certificate=made / certificate, key=None if key is None else made / key)
        with pytest.raises(KeyUnavailable) as caught:
            given.context()
        assert f"{made}/{blamed}" in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("mode", [0o604, 0o620, 0o666])
    def test_a_key_that_others_can_use_is_refused(self, made, tmp_path, mode):
        file = private(tmp_path / "key.pem", (made / "key.pem").read_bytes())
        file.chmod(mode)
        with pytest.raises(KeyUnavailable, match=str(file)):
            Credentials(certificate=made / "cert.pem", key=file).context()


def trusted(context):
    return context.cert_store_stats()["x509"]


class TestFailuresOfTls:
    def test_one_without_a_known_cause_is_told_as_it_is(self):
        error = tls_error(ssl.SSLError(1, "it broke"), Endpoint("gpu1", 8470, "https"))
        assert isinstance(error, AcceleratorUnavailable)
        assert "https://gpu1:8470" in str(error)

    def test_a_refusal_of_the_client_is_a_denial(self):
        raised = ssl.SSLError(1, "alert")
        raised.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
        error = tls_error(raised, Endpoint("gpu1", 8470, "https"))
        assert isinstance(error, AcceleratorDenied)
        assert "--cert and --key" in str(error)


def test_a_token_that_belongs_to_another_user_is_refused(tmp_path):
    file = private(tmp_path / "token", SECRET)
    if os.geteuid():
        pytest.skip("only root can give a file away")
    os.chown(file, 12345, -1)
    with pytest.raises(KeyUnavailable, match="another user"):
        read_token(file)
