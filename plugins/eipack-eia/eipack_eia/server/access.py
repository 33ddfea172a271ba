"""Who may use an accelerator, and for what: tokens, TLS, the Host header, and limits."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import suppress
from enum import Flag, auto
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_address
from math import isfinite
from pathlib import Path
from secrets import token_urlsafe
from time import monotonic
from typing import Final

from attrs import Attribute, field, frozen

from eipack.errors import AcceleratorDenied, KeyUnavailable
from eipack.trust.folder import OURS_TO_WRITE, changing, check_folder, write_whole
from eipack_eia.credentials import (
    is_loopback,
    load_chain,
    local_token_path,
    read_token,
    token_lines,
    trust,
)
from eipack_eia.endpoint import Endpoint
from eipack_eia.faults import KIND_HEADER, error_body

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Za-z._-]+))(?::[0-9]{1,5})?")
_LINGER_S: Final = 1.0
_REMEDY: Final = "name a file with tokens by --token-file, or let everybody in by --no-token"

Header = bytes | str | None
"""The value of a header, None where it is missing."""


class Rights(Flag):
    """What a client may do."""

    INFER = auto()
    UPLOAD = auto()


ALL_RIGHTS: Final = Rights.INFER | Rights.UPLOAD
_RIGHTS: Final = {
    "infer": Rights.INFER,
    "upload": Rights.UPLOAD,
    "infer,upload": ALL_RIGHTS,
    "upload,infer": ALL_RIGHTS,
}


def _digest(token: bytes) -> bytes:
    return sha256(token).digest()


def _nothing_yet() -> list[tuple[bytes, Rights]]:
    return [(b"", Rights(0))]


@frozen
class Tokens:
    """The tokens that open an accelerator, kept as digests; safe between threads."""

    _known: tuple[tuple[bytes, Rights], ...] = field(repr=False)
    # What was accepted last, as one request of a client is much like the next.
    _last: list[tuple[bytes, Rights]] = field(
        factory=_nothing_yet, init=False, repr=False, eq=False
    )

    @classmethod
    def of(cls, token: str, rights: Rights = ALL_RIGHTS) -> Tokens:
        """Accept one token."""
        return cls(((_digest(token.encode()), rights),))

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """Read a file with a `TOKEN [infer|upload|infer,upload]` a line, both rights by default.

        Raises:
            KeyUnavailable: It is missing, open to others, or not such a file.
        """
        known: dict[bytes, Rights] = {}
        for number, (token, *rest) in token_lines(path):
            rights = _RIGHTS.get(rest[0]) if len(rest) == 1 else None if rest else ALL_RIGHTS
            if rights is None:
                # The words are not repeated: they may be parts of a secret with a space in it.
                raise KeyUnavailable(
                    f"line {number} of {path}: after the token comes infer, upload or infer,upload"
                )
            digest = _digest(token.encode())
            if digest in known:
                raise KeyUnavailable(f"line {number} of {path} repeats a token; remove one of them")
            known[digest] = rights
        return cls(tuple(known.items()))

    def rights_of(self, authorization: Header) -> Rights | None:
        """Return what the header `Authorization: Bearer TOKEN` allows; None if it is not known."""
        if not authorization:
            return None
        value = _bytes(authorization)
        seen, rights = self._last[0]
        if compare_digest(value, seen):
            return rights
        scheme, _, token = value.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        found = self._find(token.strip())
        if found is not None:
            self._last[0] = (value, found)
        return found

    def knows(self, token: str) -> bool:
        """Tell whether a token is one of these."""
        return self._find(token.encode()) is not None

    def _find(self, token: bytes) -> Rights | None:
        digest = _digest(token)
        found = None
        for known, rights in self._known:  # to the end, whichever it is
            if compare_digest(known, digest):
                found = rights
        return found


def local_tokens(endpoint: Endpoint) -> tuple[Tokens, Path]:
    """Generate a token and leave it where this user's clients find it.

    To be called once the port is bound: it replaces what another accelerator left for that port.

    Raises:
        KeyUnavailable: There is no place for it, or it cannot be written.
    """
    if not endpoint.port:
        raise ValueError("the token belongs to a port; bind the socket first")
    path = local_token_path(endpoint)
    if path is None:
        raise KeyUnavailable(
            f"there is no home to keep a token in; set EIPACK_CONFIG_DIR to a folder, or {_REMEDY}"
        )
    token = token_urlsafe(32)
    with changing(path.parent.parent, _REMEDY):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        check_folder(path.parent, OURS_TO_WRITE, _REMEDY)
        write_whole(path, f"{token}\n".encode())
    return Tokens.of(token), path


def remove_local(endpoint: Endpoint, tokens: Tokens) -> None:
    """Remove the token that was left for clients, unless another accelerator has replaced it."""
    path = local_token_path(endpoint)
    try:
        if path is None or not path.parent.is_dir():
            return
        with changing(path.parent.parent, _REMEDY):
            if tokens.knows(read_token(path)):
                path.unlink()
    except OSError:  # KeyUnavailable is one: it is gone, or not ours to remove
        return


def server_context(certificate: Path, key: Path | None, client_ca: Path | None) -> ssl.SSLContext:
    """Make the TLS side of a server: TLS 1.2 or newer; with `client_ca`, clients must be known.

    Raises:
        KeyUnavailable: A file is missing, or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_chain(context, certificate, key)
    if client_ca is not None:
        trust(context, client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def secured(context: ssl.SSLContext, connection: socket.socket, seconds: float) -> ssl.SSLSocket:
    """Shake hands as a server, within that time in all; `connection` is used up by it.

    One that fails is closed only when the client has had time to read why: in TLS 1.3 it learns
    of a refused certificate after its own handshake is done.

    Raises:
        OSError: The client speaks no TLS, shows no certificate that is known, or is too slow.
    """
    wrapped = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    try:
        wrapped.settimeout(seconds)
        wrapped.do_handshake()
        wrapped.settimeout(None)
    except BaseException as error:
        with wrapped, suppress(OSError):
            if isinstance(error, ssl.SSLError):
                _explain(wrapped, error)
        raise
    return wrapped


def _explain(connection: ssl.SSLSocket, error: ssl.SSLError) -> None:
    """Answer one that speaks HTTP in the clear, and let the client read what it was sent."""
    with socket.socket(fileno=os.dup(connection.fileno())) as under:
        under.settimeout(_LINGER_S)
        if error.reason == "HTTP_REQUEST":
            body = error_body("this accelerator speaks TLS; attach it as https://HOST:PORT")
            head = (
                f"HTTP/1.1 400 Bad Request\r\n{KIND_HEADER}: AcceleratorDenied\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            under.sendall(head.encode() + body)
        under.shutdown(socket.SHUT_WR)
        scratch = bytearray(64 << 10)
        end = monotonic() + _LINGER_S
        while monotonic() < end and under.recv_into(scratch):
            pass


@frozen
class Access:
    """Who may use an accelerator; without `tokens` whoever reaches it, `insecure` in the clear.

    `token_path` is where a generated token was left. `hosts` are the names by which clients may
    call it; `by_any_address` lets them use addresses too, which no web page of others can make
    its own name of.
    """

    tokens: Tokens | None
    token_path: Path | None
    tls: ssl.SSLContext | None = field(repr=False)
    client_certificates: bool
    insecure: bool
    hosts: frozenset[str]
    by_any_address: bool

    @classmethod
    def plan(
        cls,
        listen: Endpoint,
        *,
        token_file: Path | None = None,
        no_token: bool = False,
        cert: Path | None = None,
        key: Path | None = None,
        client_ca: Path | None = None,
        insecure: bool = False,
        allow_hosts: Iterable[str] = (),
    ) -> Access:
        """Decide who may use the accelerator that listens there; the port is bound already.

        On loopback a generated token is enough. Beyond it TLS is needed, and tokens or client
        certificates; `insecure` and `no_token` do without.

        Raises:
            AcceleratorDenied: What is given leaves it open to others, or contradicts itself.
            KeyUnavailable: A file cannot be used.
        """
        known = token_file is not None or client_ca is not None
        local = is_loopback(listen.host)
        if not local:
            _check_safety(listen, tls=cert is not None or insecure, known=known or no_token)
        _check_sense(token_file, no_token=no_token, cert=cert, key=key, client_ca=client_ca)
        tls = None if cert is None else server_context(cert, key, client_ca)
        hosts = frozenset((*_LOOPBACK, *_own_names(listen, cert), *map(_allowed, allow_hosts)))
        tokens = None if token_file is None else Tokens.read(token_file)
        path = None
        if local and not known and not no_token:  # last, since it leaves a file
            tokens, path = local_tokens(listen)
        return cls(
            tokens,
            path,
            tls,
            client_certificates=client_ca is not None,
            insecure=tls is None and not local,
            hosts=hosts,
            by_any_address=_is_wildcard(listen.host),
        )

    def rights_of(self, authorization: Header) -> Rights | None:
        """Return what a client may do; None where it shows no token that is known."""
        return ALL_RIGHTS if self.tokens is None else self.tokens.rights_of(authorization)

    def demand(self, right: Rights, authorization: Header) -> None:
        """Go on only for a client with this right.

        Raises:
            AcceleratorDenied: It has no known token, or one with the other right alone.
        """
        rights = self.rights_of(authorization)
        if rights is not None and right in rights:
            return
        if rights is not None:
            names = " and ".join(str(one.name).lower() for one in right)
            raise AcceleratorDenied(
                f"the token does not allow to {names}; ask the accelerator's owner for another"
            )
        problem = "is not known here" if authorization else "is missing"
        raise AcceleratorDenied(
            f"the token {problem}; name the file of the accelerator's token with --token-file"
        )

    def host_allowed(self, host: Header) -> bool:
        """Tell whether a Host header names this accelerator, with whatever port.

        A web page that has its own name point to this host (DNS rebinding) is kept out by it.
        """
        if not host:
            return False
        match = _HOST.fullmatch(_bytes(host).decode("latin-1").strip())
        if match is None:
            return False
        name = _canonical(match[1] or match[2])
        return name in self.hosts or (self.by_any_address and _is_address(name))


def _check_safety(listen: Endpoint, *, tls: bool, known: bool) -> None:
    needed = []
    if not tls:
        needed.append("TLS (give --cert and --key; --insecure does without)")
    if not known:
        needed.append(
            "a token or client certificates (give --token-file or --client-ca; "
            "--no-token does without)"
        )
    if needed:
        raise AcceleratorDenied(
            f"{listen.netloc} can be reached from other hosts, which needs {' and '.join(needed)}"
        )


def _check_sense(
    token_file: Path | None,
    *,
    no_token: bool,
    cert: Path | None,
    key: Path | None,
    client_ca: Path | None,
) -> None:
    if no_token and token_file is not None:
        raise AcceleratorDenied("--no-token and --token-file exclude each other; give one of them")
    for option, value in (("--key", key), ("--client-ca", client_ca)):
        if value is not None and cert is None:
            raise AcceleratorDenied(f"{option} needs TLS; give --cert too")


def _own_names(listen: Endpoint, cert: Path | None) -> Iterator[str]:
    yield _canonical(listen.host)
    if _is_wildcard(listen.host):
        yield socket.gethostname().lower()
    if cert is not None:
        yield from map(_canonical, _names_in(cert))


def _names_in(cert: Path) -> list[str]:
    """Read for which names a certificate is good; `*` in a name stands for none."""
    from cryptography import x509

    try:
        first = x509.load_pem_x509_certificates(cert.read_bytes())[0]
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *map(str, addresses)]


def _allowed(text: str) -> str:
    if _is_address(text):
        return _canonical(text)
    match = _HOST.fullmatch(text.strip())
    if match is None:
        raise AcceleratorDenied(f"--allow-host {text!r} is no host; write a name, as gpu1.example")
    return _canonical(match[1] or match[2])


def _canonical(host: str) -> str:
    return str(ip_address(host)) if _is_address(host) else host.lower()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_wildcard(host: str) -> bool:
    return _is_address(host) and ip_address(host).is_unspecified


def _bytes(value: bytes | str) -> bytes:
    return value.encode("latin-1", "replace") if isinstance(value, str) else value


def _check_count(_: Limits, attribute: Attribute[int], value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{attribute.name} is {value!r}; write a whole number above 0")


def _check_seconds(_: Limits, attribute: Attribute[float], value: float) -> None:
    if not (isfinite(value) and value > 0):
        raise ValueError(f"{attribute.name} is {value!r}; write seconds above 0")


@frozen
class Limits:
    """How much a client may ask for; `receive_s` is for one whole request."""

    header_bytes: int = field(default=64 << 10, validator=_check_count)
    body_bytes: int = field(default=1 << 30, validator=_check_count)
    connections: int = field(default=256, validator=_check_count)
    idle_s: float = field(default=600.0, validator=_check_seconds)
    receive_s: float = field(default=60.0, validator=_check_seconds)
    upload_chunk_bytes: int = field(default=16 << 20, validator=_check_count)

    def __attrs_post_init__(self) -> None:
        if self.upload_chunk_bytes > self.body_bytes:
            raise ValueError(
                f"upload_chunk_bytes is {self.upload_chunk_bytes}, more than body_bytes "
                f"({self.body_bytes}) lets in; lower it"
            )
