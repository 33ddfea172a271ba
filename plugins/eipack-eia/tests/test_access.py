"""Who may use an accelerator: tokens, real handshakes of TLS, the Host header, and limits."""

import os
import socket
import ssl
import stat
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from time import monotonic
from timeit import repeat

import pytest
from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from eipack_eia.client.control import Control
from eipack_eia.credentials import Credentials, credentials_from, local_token_file, tls_error
from eipack_eia.endpoint import Endpoint
from eipack_eia.server.access import (
    ALL_RIGHTS,
    Access,
    Limits,
    Rights,
    Tokens,
    local_tokens,
    remove_local,
    secured,
    server_context,
)

from eipack.errors import AcceleratorDenied, AcceleratorUnavailable, EipackError, KeyUnavailable

SECRET = "correct-horse-battery-staple"
HERE = Endpoint("127.0.0.1", 8470)
AWAY = Endpoint("0.0.0.0", 8470)
PATIENCE_S = 5


def bearer(token):
    return f"Bearer {token}".encode()


def private(path, text):
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture
def token_file(tmp_path):
    return private(tmp_path / "tokens", f"{SECRET}\nonly-infer infer\nonly-upload upload\n")


# --- certificates -------------------------------------------------------------------------------


@frozen
class Authority:
    """A certificate authority of the tests, and the folder that holds what it has signed."""

    folder: object
    name: str
    key: object
    subject: x509.Name

    @classmethod
    def make(cls, folder, name):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        authority = cls(folder, name, ec.generate_private_key(ec.SECP256R1()), subject)
        limits = x509.BasicConstraints(ca=True, path_length=0)
        authority._write(name, subject, authority.key, [limits], days=1)
        return authority

    @property
    def file(self):
        return self.folder / f"{self.name}.pem"

    def issue(self, name, hosts=(), days=1):
        """Sign a certificate; one of fewer than no days has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [_general_name(host) for host in hosts]
        parts = [x509.SubjectAlternativeName(names)] if names else []
        self._write(name, subject, key, parts, days)
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def _write(self, name, subject, key, parts, days):
        now = datetime.now(UTC)
        serial = x509.random_serial_number()
        builder = x509.CertificateBuilder(self.subject, subject, key.public_key(), serial)
        builder = builder.not_valid_before(now - timedelta(days=3))
        builder = builder.not_valid_after(now + timedelta(days=days))
        for part in parts:
            builder = builder.add_extension(part, critical=isinstance(part, x509.BasicConstraints))
        signed = builder.sign(self.key, hashes.SHA256())
        text = signed.public_bytes(serialization.Encoding.PEM).decode()
        private(self.folder / f"{name}.pem", text)
        plain = serialization.NoEncryption()
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        private(self.folder / f"{name}.key", key.private_bytes(*form).decode())


def _general_name(host):
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@frozen
class Certificates:
    """All that the handshakes need: authority, server and client, and what is wrong with each."""

    ca: Authority
    server: tuple
    client: tuple
    expired_server: tuple
    expired_client: tuple
    other_host: tuple
    stranger: Authority
    strange_client: tuple


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")
    ca, stranger = Authority.make(folder, "ca"), Authority.make(folder, "stranger")
    hosts = ("localhost", "127.0.0.1")
    return Certificates(
        ca,
        server=ca.issue("server", hosts),
        client=ca.issue("client"),
        expired_server=ca.issue("expired_server", hosts, days=-1),
        expired_client=ca.issue("expired_client", days=-1),
        other_host=ca.issue("other_host", ("gpu1.example", "10.1.2.3", "*.pool.example")),
        stranger=stranger,
        strange_client=stranger.issue("strange_client"),
    )


# --- tokens -------------------------------------------------------------------------------------


class TestTokens:
    @pytest.mark.parametrize(
        ("line", "rights"),
        [
            (SECRET, ALL_RIGHTS),
            (f"{SECRET} infer", Rights.INFER),
            (f"{SECRET}\tupload", Rights.UPLOAD),
            (f"{SECRET} infer,upload", ALL_RIGHTS),
            (f"{SECRET} upload,infer", ALL_RIGHTS),
        ],
    )
    def test_a_line_gives_a_token_its_rights(self, tmp_path, line, rights):
        tokens = Tokens.read(private(tmp_path / "tokens", f"# ours\n\n{line}\n"))
        assert tokens.rights_of(bearer(SECRET)) == rights

    def test_each_line_counts_for_itself(self, token_file):
        tokens = Tokens.read(token_file)
        assert tokens.rights_of(bearer("only-upload")) == Rights.UPLOAD
        assert tokens.rights_of(bearer("only-infer")) == Rights.INFER
        assert tokens.rights_of(bearer(SECRET)) == ALL_RIGHTS

    @pytest.mark.parametrize(
        "header",
        [
            None,
            b"",
            "",
            b"Bearer",
            b"Bearer ",
            b"Bearer wrong",
            SECRET.encode(),
            b"Basic " + SECRET.encode(),
            bearer(SECRET) + b"x",
            bearer(SECRET[:-1]),
            bearer(SECRET.upper()),
            b"Bearer \xff\x00",
            "Bearer \u20ac",
        ],
    )
    def test_what_is_no_known_token_has_no_rights(self, header):
        tokens = Tokens.of(SECRET)
        assert tokens.rights_of(header) is None
        assert tokens.rights_of(bearer(SECRET)) == ALL_RIGHTS
        assert tokens.rights_of(header) is None

    @pytest.mark.parametrize("header", [f"Bearer {SECRET}", f"bearer  {SECRET} ".encode()])
    def test_text_and_small_letters_are_accepted(self, header):
        assert Tokens.of(SECRET).rights_of(header) == ALL_RIGHTS

    def test_one_client_never_gets_what_another_was_given_before(self, token_file):
        tokens = Tokens.read(token_file)
        for _ in range(2):
            assert tokens.rights_of(bearer(SECRET)) == ALL_RIGHTS
            assert tokens.rights_of(bearer("only-infer")) == Rights.INFER
            assert tokens.rights_of(bearer("wrong")) is None

    def test_every_token_is_compared_whichever_it_is(self, token_file, monkeypatch):
        compared = []
        tokens = Tokens.read(token_file)
        monkeypatch.setattr(
            "eipack_eia.server.access.compare_digest", lambda a, b: bool(compared.append(a))
        )
        tokens.rights_of(bearer(SECRET))
        assert compared[1:] == [digest for digest, _ in tokens._known]

    @pytest.mark.parametrize("rest", ["delete", "infer upload", "infer,", "INFER", "infer # note"])
    def test_an_unknown_right_is_refused_by_its_line_alone(self, tmp_path, rest):
        file = private(tmp_path / "tokens", f"# ours\n{SECRET} {rest}\n")
        with pytest.raises(KeyUnavailable, match=r"line 2 of .*tokens: after the token") as caught:
            Tokens.read(file)
        assert SECRET not in str(caught.value)
        assert rest not in str(caught.value).split("comes")[0]

    def test_a_token_given_twice_is_refused(self, tmp_path):
        file = private(tmp_path / "tokens", f"{SECRET} infer\n{SECRET} upload\n")
        with pytest.raises(KeyUnavailable, match="line 2") as caught:
            Tokens.read(file)
        assert SECRET not in str(caught.value)

    def test_a_file_that_others_can_read_is_refused(self, token_file):
        token_file.chmod(0o644)
        with pytest.raises(KeyUnavailable, match="chmod 600"):
            Tokens.read(token_file)

    def test_nothing_shows_a_token(self, token_file):
        shown = repr(Tokens.read(token_file)) + repr(Tokens.of(SECRET))
        assert SECRET not in shown
        assert "x" not in shown.replace("Tokens", "")  # no digest either

    def test_asking_costs_next_to_nothing(self):
        tokens, header = Tokens.of(SECRET), bearer(SECRET)
        fastest = min(repeat(lambda: tokens.rights_of(header), number=1000, repeat=20)) / 1000
        assert fastest < 3e-6


class TestLocalTokens:
    def test_a_client_of_this_user_finds_it(self, fresh_home):
        tokens, path = local_tokens(HERE)
        token = credentials_from(None, None, None, None, HERE).token
        assert tokens.rights_of(bearer(token)) == ALL_RIGHTS
        assert local_token_file(HERE) == path

    def test_it_is_for_this_user_alone_whatever_the_umask(self, fresh_home):
        before = os.umask(0)
        try:
            _, path = local_tokens(HERE)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700

    def test_each_start_makes_another(self, fresh_home):
        first, path = local_tokens(HERE)
        old = path.read_text().strip()
        local_tokens(HERE)
        assert path.read_text().strip() != old
        assert first.knows(old)

    def test_ports_have_their_own(self, fresh_home):
        here, there = local_tokens(HERE), local_tokens(Endpoint("127.0.0.1", 8471))
        assert here[1] != there[1]

    def test_localhost_and_its_address_share_one(self, fresh_home):
        assert local_tokens(Endpoint("localhost", 8470))[1] == local_tokens(HERE)[1]

    def test_it_is_removed_as_the_accelerator_stops(self, fresh_home):
        tokens, path = local_tokens(HERE)
        remove_local(HERE, tokens)
        assert not path.exists()

    def test_removing_what_is_gone_is_no_error(self, fresh_home):
        remove_local(HERE, Tokens.of(SECRET))
        tokens, _ = local_tokens(HERE)
        remove_local(HERE, tokens)
        remove_local(HERE, tokens)

    def test_the_one_of_a_successor_stays(self, fresh_home):
        tokens, path = local_tokens(HERE)
        local_tokens(HERE)
        remove_local(HERE, tokens)
        assert path.exists()

    def test_a_folder_that_others_may_write_is_refused(self, fresh_home):
        _, path = local_tokens(HERE)
        path.parent.chmod(0o777)
        with pytest.raises(KeyUnavailable, match=f"{path.parent} can be"):
            local_tokens(HERE)

    def test_without_a_home_it_says_what_to_give(self, monkeypatch):
        for name in ("EIPACK_CONFIG_DIR", "XDG_CONFIG_HOME", "HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)
        with pytest.raises(KeyUnavailable, match=r"EIPACK_CONFIG_DIR.*--token-file.*--no-token"):
            local_tokens(HERE)

    def test_a_port_that_is_not_bound_has_none(self, fresh_home):
        with pytest.raises(ValueError, match="bind"):
            local_tokens(Endpoint("127.0.0.1", 0))


# --- the plan -----------------------------------------------------------------------------------


class TestPlan:
    def test_loopback_generates_a_token(self, fresh_home):
        access = Access.plan(HERE)
        token = credentials_from(None, None, None, None, HERE).token
        assert access.rights_of(bearer(token)) == ALL_RIGHTS
        assert access.rights_of(None) is None
        assert not access.insecure
        assert access.token_path == local_token_file(HERE)

    def test_loopback_lets_everybody_in_by_name(self, fresh_home):
        access = Access.plan(HERE, no_token=True)
        assert access.rights_of(None) == ALL_RIGHTS
        assert local_token_file(HERE) is None

    def test_the_file_of_a_generated_token_gives_another_process_the_same_plan(self, fresh_home):
        access = Access.plan(HERE)
        again = Access.plan(HERE, token_file=access.token_path)
        assert again.tokens == access.tokens

    def test_a_file_of_tokens_takes_the_place_of_a_generated_one(self, fresh_home, token_file):
        access = Access.plan(HERE, token_file=token_file)
        assert access.rights_of(bearer("only-infer")) == Rights.INFER
        assert access.token_path is None
        assert local_token_file(HERE) is None

    def test_a_client_certificate_does_too(self, fresh_home, pki):
        cert, key = pki.server
        access = Access.plan(HERE, cert=cert, key=key, client_ca=pki.ca.file)
        assert access.client_certificates
        assert access.tokens is None

    def test_beyond_the_host_nothing_is_open_by_default(self, fresh_home):
        with pytest.raises(AcceleratorDenied) as caught:
            Access.plan(AWAY)
        for option in (
            "--cert",
            "--key",
            "--insecure",
            "--token-file",
            "--client-ca",
            "--no-token",
        ):
            assert option in str(caught.value)
        assert "0.0.0.0:8470" in str(caught.value)
        assert local_token_file(HERE) is None

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "gpu1.example", "127.1"])
    def test_whatever_is_not_loopback_by_name_is_beyond_the_host(self, host):
        with pytest.raises(AcceleratorDenied):
            Access.plan(Endpoint(host, 8470))

    def test_a_token_in_the_clear_is_not_enough(self, token_file):
        with pytest.raises(AcceleratorDenied, match="--insecure") as caught:
            Access.plan(AWAY, token_file=token_file)
        assert "--no-token" not in str(caught.value)

    def test_encryption_without_a_token_is_not_enough(self, pki):
        cert, key = pki.server
        with pytest.raises(AcceleratorDenied, match="--no-token") as caught:
            Access.plan(AWAY, cert=cert, key=key)
        assert "--insecure" not in str(caught.value)

    def test_each_waiver_covers_its_own_subject(self, token_file):
        with pytest.raises(AcceleratorDenied, match="--no-token"):
            Access.plan(AWAY, insecure=True)
        with pytest.raises(AcceleratorDenied, match="--insecure"):
            Access.plan(AWAY, no_token=True)
        assert Access.plan(AWAY, insecure=True, token_file=token_file).insecure
        assert Access.plan(AWAY, insecure=True, no_token=True).rights_of(None) == ALL_RIGHTS

    def test_tls_with_a_token_or_a_client_certificate_is_enough(self, pki, token_file):
        cert, key = pki.server
        by_token = Access.plan(AWAY, cert=cert, key=key, token_file=token_file)
        assert by_token.tls is not None
        assert by_token.rights_of(None) is None
        assert not by_token.insecure
        by_certificate = Access.plan(AWAY, cert=cert, key=key, client_ca=pki.ca.file)
        assert by_certificate.tls is not None
        assert by_certificate.tls.verify_mode is ssl.CERT_REQUIRED

    def test_with_both_a_certificate_does_not_do_for_a_token(self, pki, token_file):
        cert, key = pki.server
        access = Access.plan(AWAY, cert=cert, key=key, client_ca=pki.ca.file, token_file=token_file)
        assert access.rights_of(None) is None

    def test_contradictions_are_refused(self, pki, token_file):
        key = pki.server[1]
        for given, option in (
            ({"no_token": True, "token_file": token_file}, "--no-token and --token-file"),
            ({"key": key}, "--key needs TLS"),
            ({"client_ca": pki.ca.file}, "--client-ca needs TLS"),
        ):
            with pytest.raises(AcceleratorDenied, match=option):
                Access.plan(HERE, **given)

    def test_a_failing_plan_leaves_no_token(self, fresh_home, pki, tmp_path):
        with pytest.raises(KeyUnavailable, match=r"none\.pem"):
            Access.plan(HERE, cert=tmp_path / "none.pem", key=pki.server[1])
        assert local_token_file(HERE) is None

    def test_nothing_shows_a_secret(self, fresh_home, token_file):
        access = Access.plan(HERE, token_file=token_file)
        generated = Access.plan(HERE)
        token = credentials_from(None, None, None, None, HERE).token
        assert SECRET not in repr(access)
        assert token not in repr(generated)


class TestDemand:
    @pytest.fixture
    def access(self, token_file):
        return Access.plan(HERE, token_file=token_file)

    def test_a_token_with_the_right_goes_on(self, access):
        access.demand(Rights.INFER, bearer("only-infer"))
        access.demand(ALL_RIGHTS, bearer(SECRET))

    def test_one_with_the_other_right_is_told_so(self, access):
        with pytest.raises(AcceleratorDenied, match="does not allow to upload") as caught:
            access.demand(Rights.UPLOAD, bearer("only-infer"))
        assert "only-infer" not in str(caught.value)

    def test_a_missing_and_a_wrong_token_are_told_apart(self, access):
        with pytest.raises(AcceleratorDenied, match=r"is missing; .*--token-file"):
            access.demand(Rights.INFER, None)
        with pytest.raises(AcceleratorDenied, match="is not known") as caught:
            access.demand(Rights.INFER, bearer("a-guess"))
        assert "a-guess" not in str(caught.value)


# --- the Host header ----------------------------------------------------------------------------


class TestHost:
    @pytest.fixture
    def here(self):
        return Access.plan(HERE, no_token=True, allow_hosts=["gpu1.example", "10.9.8.7", "::9"])

    @pytest.mark.parametrize(
        "value",
        [
            b"127.0.0.1:8470",
            b"127.0.0.1",
            b"localhost:8470",
            b"LocalHost",
            b"localhost:9000",
            b"[::1]:8470",
            b"[0:0::1]",
            b"gpu1.example",
            b"GPU1.example:8470",
            b"10.9.8.7:80",
            b"[::9]",
            " localhost ",
        ],
    )
    def test_names_of_the_accelerator_are_allowed(self, here, value):
        assert here.host_allowed(value)

    @pytest.mark.parametrize(
        "value",
        [
            None,
            b"",
            b" ",
            b"evil.example",
            b"evil.example:8470",
            b"localhost.evil.example",
            b"127.0.0.1.evil.example:8470",
            b"evil.example@localhost",
            b"localhost@evil.example",
            b"localhost:8470:8470",
            b"localhost:port",
            b"localhost:",
            b"localhost/",
            b"localhost, evil.example",
            b"::1",
            b"[::1",
            b"10.0.0.1",
            b"*",
            b"\xff\xfe",
        ],
    )
    def test_any_other_is_refused(self, here, value):
        assert not here.host_allowed(value)

    def test_a_wildcard_listens_by_any_address_and_its_own_name(self):
        access = Access.plan(AWAY, no_token=True, insecure=True)
        assert access.host_allowed(b"192.168.7.7:8470")
        assert access.host_allowed(b"[fe80::1]:8470")
        assert access.host_allowed(f"{socket.gethostname()}:8470")
        assert not access.host_allowed(b"evil.example:8470")

    def test_names_in_the_certificate_are_allowed(self, pki):
        cert, key = pki.other_host
        access = Access.plan(HERE, no_token=True, cert=cert, key=key)
        assert access.host_allowed(b"gpu1.example:8470")
        assert access.host_allowed(b"10.1.2.3")
        assert not access.host_allowed(b"evil.pool.example")

    def test_a_certificate_without_names_adds_none(self, pki):
        cert, key = pki.client
        assert not Access.plan(HERE, no_token=True, cert=cert, key=key).host_allowed(b"client")

    @pytest.mark.parametrize("name", ["", "*", "http://gpu1.example", "a b", "gpu1:port"])
    def test_what_is_no_host_cannot_be_allowed(self, name):
        with pytest.raises(AcceleratorDenied, match="--allow-host"):
            Access.plan(HERE, no_token=True, allow_hosts=[name])


# --- handshakes ---------------------------------------------------------------------------------


@contextmanager
def listening(context, seconds=PATIENCE_S):
    """Serve one connection: shake hands, then answer what comes; yield port and what failed."""
    failures = []

    def serve():
        raw, _ = listener.accept()
        try:
            with secured(context, raw, seconds) as connection:
                connection.settimeout(PATIENCE_S)
                connection.sendall(connection.recv(64))
        except OSError as error:
            failures.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], failures
        finally:
            thread.join(PATIENCE_S)
    assert not thread.is_alive()


def said(port, credentials, host="localhost"):
    """Send a word over TLS and return the answer; translate failures as a client does."""
    endpoint = Endpoint(host, port, "https")
    context = credentials.context()
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as raw:
            with context.wrap_socket(raw, server_hostname=host) as connection:
                connection.sendall(b"ping")
                return connection.recv(64)
    except ssl.SSLError as error:
        raise tls_error(error, endpoint) from error


def both_versions(context, version):
    context.maximum_version = version
    return context


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda one: one.name)
def version(request):
    return request.param


class TestHandshake:
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
    def test_the_right_authority_is_believed(self, pki, version, host):
        context = both_versions(server_context(*pki.server, None), version)
        with listening(context) as (port, failures):
            assert said(port, Credentials(ca=pki.ca.file), host) == b"ping"
        assert not failures

    def test_another_authority_is_not(self, pki, monkeypatch):
        # what the system trusts must not count where an authority was named
        monkeypatch.setenv("SSL_CERT_FILE", str(pki.ca.file))
        with listening(server_context(*pki.server, None)) as (port, failures):
            with pytest.raises(AcceleratorUnavailable, match=r"is not accepted .*--ca"):
                said(port, Credentials(ca=pki.stranger.file))
        assert failures

    def test_the_systems_authorities_are_believed_by_default(self, pki, monkeypatch):
        monkeypatch.setenv("SSL_CERT_FILE", str(pki.ca.file))
        with listening(server_context(*pki.server, None)) as (port, _):
            assert said(port, Credentials()) == b"ping"

    def test_an_expired_server_is_not_believed(self, pki):
        with listening(server_context(*pki.expired_server, None)) as (port, _):
            with pytest.raises(AcceleratorUnavailable, match="certificate has expired"):
                said(port, Credentials(ca=pki.ca.file))

    def test_a_certificate_for_another_host_is_not_believed(self, pki):
        with listening(server_context(*pki.other_host, None)) as (port, _):
            with pytest.raises(AcceleratorUnavailable, match="Hostname mismatch"):
                said(port, Credentials(ca=pki.ca.file))

    def test_a_known_client_is_let_in(self, pki, version):
        context = both_versions(server_context(*pki.server, pki.ca.file), version)
        with listening(context) as (port, failures):
            assert said(port, Credentials(None, pki.ca.file, *pki.client)) == b"ping"
        assert not failures

    @pytest.mark.parametrize("shown", [None, "strange_client", "expired_client"])
    def test_another_client_is_denied(self, pki, version, shown):
        given = () if shown is None else getattr(pki, shown)
        context = both_versions(server_context(*pki.server, pki.ca.file), version)
        with listening(context) as (port, failures):
            with pytest.raises(AcceleratorDenied, match="--cert and --key"):
                said(port, Credentials(None, pki.ca.file, *given))
        assert len(failures) == 1

    def test_a_client_in_the_clear_is_told_to_speak_tls(self, pki):
        with listening(server_context(*pki.server, None)) as (port, failures):
            control = Control(Endpoint("127.0.0.1", port), Credentials(), PATIENCE_S)
            with pytest.raises(AcceleratorDenied, match="speaks TLS; attach it as https://"):
                control.request("GET", "v2")
        assert isinstance(failures[0], ssl.SSLError)

    def test_garbage_gets_no_answer_in_the_clear(self, pki):
        with listening(server_context(*pki.server, None)) as (port, failures):
            with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
                connection.sendall(bytes(range(256)))
                assert b"HTTP" not in received(connection)
        assert isinstance(failures[0], ssl.SSLError)

    def test_a_client_that_says_nothing_is_given_up(self, pki):
        with listening(server_context(*pki.server, None), 0.05) as (port, failures):
            with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
                assert received(connection) == b""
        assert isinstance(failures[0], TimeoutError)

    def test_a_client_that_drips_is_given_up_in_the_same_time(self, pki):
        with listening(server_context(*pki.server, None), 0.2) as (port, failures):
            with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
                began = monotonic()
                connection.settimeout(0.02)
                drip(connection, b"\x16\x03\x01\x02\x00" + bytes(500))
                assert monotonic() - began < 1
        assert isinstance(failures[0], TimeoutError)

    def test_a_server_in_the_clear_is_named_as_such(self, pki):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=answer_in_the_clear, args=(listener,))
            thread.start()
            with pytest.raises(AcceleratorUnavailable, match="does not speak TLS; attach it as"):
                said(listener.getsockname()[1], Credentials(ca=pki.ca.file))
            thread.join(PATIENCE_S)

    def test_old_versions_of_tls_are_refused(self, pki):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(pki.ca.file)
        # level 0 is what lets OpenSSL 3 offer TLS 1.1 at all
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
            context.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with listening(server_context(*pki.server, None)) as (port, failures):
            with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as raw:
                with pytest.raises(ssl.SSLError):
                    context.wrap_socket(raw, server_hostname="localhost")
        assert "PROTOCOL" in failures[0].reason

    def test_no_failure_shows_a_secret(self, pki, token_file):
        given = credentials_from(token_file, pki.stranger.file, *pki.client, HERE)
        with listening(server_context(*pki.server, pki.ca.file)) as (port, failures):
            with pytest.raises(EipackError) as caught:
                said(port, given)
        assert SECRET not in repr((caught.value, caught.value.__cause__, failures, given))


def drip(connection, data):
    """Send byte by byte until the other side hangs up."""
    for at in range(len(data)):
        try:
            connection.send(data[at : at + 1])
            if not connection.recv(1):
                return
        except TimeoutError:
            continue
        except OSError:
            return


def received(connection):
    try:
        return connection.recv(4096)
    except ConnectionResetError:
        return b""


def answer_in_the_clear(listener):
    listener.settimeout(PATIENCE_S)
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(PATIENCE_S)
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        received(connection)


# --- limits -------------------------------------------------------------------------------------


class TestLimits:
    def test_the_defaults_hold_together(self):
        assert Limits() == Limits(65536, 1 << 30, 256, 600, 60, 16 << 20)

    @pytest.mark.parametrize("value", [0, -1, 1.5, True, "1"])
    @pytest.mark.parametrize("name", ["header_bytes", "body_bytes", "connections"])
    def test_counts_are_whole_and_above_zero(self, name, value):
        with pytest.raises(ValueError, match=f"{name} is "):
            Limits(**{name: value})

    @pytest.mark.parametrize("value", [0, -1.0, float("inf"), float("nan")])
    @pytest.mark.parametrize("name", ["idle_s", "receive_s"])
    def test_times_end(self, name, value):
        with pytest.raises(ValueError, match=f"{name} is "):
            Limits(**{name: value})

    def test_a_chunk_fits_into_a_body(self):
        with pytest.raises(ValueError, match="upload_chunk_bytes"):
            Limits(body_bytes=1024)
