"""What a client shows to an accelerator, a token or a certificate, and whom it believes.

A file of tokens has one a line, `TOKEN [infer|upload|infer,upload]`, and comments in lines that
begin with `#`. An accelerator reads them all, a client takes the first. An accelerator that
listens on loopback puts a token where the clients of the same user find it by themselves.
"""

from __future__ import annotations

import os
import re
import ssl
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Final, NoReturn

from attrs import field, frozen

from eipack.errors import (
    AcceleratorDenied,
    AcceleratorError,
    AcceleratorUnavailable,
    KeyUnavailable,
)
from eipack.trust.folder import NOT_FOR_ALL_TO_WRITE, PRIVATE, config_folder, read_guarded
from eipack_eia.endpoint import Endpoint

_WORD: Final = re.compile(rb"[!-~]+")
_KEY_OF_OTHERS: Final = 0o027
"""A group may read a key of TLS, as Kubernetes and Debian's `ssl-cert` have it; nobody else."""
_REMEDY: Final = "name a file with a token in its first line"
_CA_REMEDY: Final = "name a PEM file with certificates"
_KEY_REMEDY: Final = "name a PEM file with an unencrypted private key"


@frozen
class Credentials:
    """A bearer token and the files of TLS; the token never shows in a `repr`.

    `ca` holds the certificates that may have signed the accelerator's; by default those that the
    system trusts. `certificate` and `key` are the client's own; without `key` it is expected in
    the certificate's file.
    """

    token: str | None = field(default=None, repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Make the TLS side of a client: TLS 1.2 or newer, certificate and host name checked.

        Reading what the system trusts takes milliseconds: one context serves many connections.

        Raises:
            KeyUnavailable: A file is missing, or is not what it should be.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ca is None:
            context.load_default_certs()
        else:
            trust(context, self.ca)
        if self.certificate is not None:
            load_chain(context, self.certificate, self.key)
        return context


def credentials_from(
    token_file: Path | None,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    endpoint: Endpoint,
) -> Credentials:
    """Read what to show at `endpoint`; without `token_file` the token left on this host is taken.

    Raises:
        KeyUnavailable: The token cannot be read, or a key has no certificate.
    """
    if key is not None and cert is None:
        raise KeyUnavailable(f"{key} is a key without a certificate; name its certificate too")
    path = local_token_file(endpoint) if token_file is None else token_file
    return Credentials(None if path is None else read_token(path), ca, cert, key)


def read_token(path: Path) -> str:
    """Read the first token of a file that nobody else can read.

    Raises:
        KeyUnavailable: There is no such file or no token in it, or others can read it.
    """
    return token_lines(path)[0][1][0]


def token_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return the lines of a file of tokens that are no comment: their number and their words.

    Raises:
        KeyUnavailable: As `read_token`; no message ever holds a part of the file.
    """
    data = read_guarded(path, PRIVATE, _REMEDY)
    if data is None:
        raise KeyUnavailable(f"there is no file {path}; {_REMEDY}")
    lines = []
    for number, line in enumerate(data.splitlines(), 1):
        words = [] if line.lstrip().startswith(b"#") else line.split()
        if not all(map(_WORD.fullmatch, words)):
            raise KeyUnavailable(
                f"line {number} of {path} is not printable ASCII; {_REMEDY}, as: "
                "openssl rand -hex 32"
            )
        if words:
            lines.append((number, [word.decode("ascii") for word in words]))
    if not lines:
        raise KeyUnavailable(f"{path} holds no token; {_REMEDY}, as: openssl rand -hex 32")
    return lines


def is_loopback(host: str) -> bool:
    """Tell whether a host is this one, by its very name: nothing is resolved."""
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def local_token_path(endpoint: Endpoint) -> Path | None:
    """Name the file for the token of an accelerator on loopback; None where there is no home."""
    folder = config_folder()
    if folder is None:
        return None
    host = "127.0.0.1" if endpoint.host.lower() == "localhost" else str(ip_address(endpoint.host))
    return folder / "eia" / f"{host}_{endpoint.port}.token"


def local_token_file(endpoint: Endpoint) -> Path | None:
    """Find the token that an accelerator of this user has left; None if there is none.

    Servers of others never get it, nor does any other host.
    """
    if endpoint.foreign or not is_loopback(endpoint.host):
        return None
    hosts = ("127.0.0.1", "::1") if endpoint.host.lower() == "localhost" else (endpoint.host,)
    paths = (local_token_path(Endpoint(host, endpoint.port)) for host in hosts)
    # Path.is_file raises where a folder may not be looked into.
    return next((path for path in paths if path and os.path.isfile(path)), None)  # noqa: PTH113


def trust(context: ssl.SSLContext, ca: Path) -> None:
    """Let a context believe whom the certificates in a PEM file have signed.

    Raises:
        KeyUnavailable: There is no such file or no certificate in it, or everybody may write it.
    """
    data = read_guarded(ca, NOT_FOR_ALL_TO_WRITE, _CA_REMEDY)
    if data is None:
        raise KeyUnavailable(f"there is no file {ca}; {_CA_REMEDY}")
    try:
        # what was checked is what is used; comments between certificates may be in any script
        context.load_verify_locations(cadata=data.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise KeyUnavailable(f"{ca} holds no readable certificate; {_CA_REMEDY}") from error


def load_chain(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """Give a context its own certificate and key.

    Raises:
        KeyUnavailable: One of them is missing, unreadable, encrypted or open to others, or they
            do not belong together.
    """
    private = certificate if key is None else key
    # What cannot be read as certificates fails here, so that below only the key can be at fault.
    trust(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate)
    if read_guarded(private, _KEY_OF_OTHERS, _KEY_REMEDY) is None:
        raise KeyUnavailable(f"there is no file {private}; {_KEY_REMEDY}")

    def no_password() -> NoReturn:
        raise KeyUnavailable(f"{private} is encrypted, and eipack asks for no password")

    try:
        context.load_cert_chain(certificate, private, no_password)
    except KeyUnavailable:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise KeyUnavailable(
            f"{private} is no key for the certificate in {certificate} ({reason}); {_KEY_REMEDY}"
        ) from error


def tls_error(error: ssl.SSLError, endpoint: Endpoint) -> AcceleratorError:
    """Return what a client reports for a failure of TLS with an accelerator."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return AcceleratorUnavailable(
            f"the certificate of {endpoint} is not accepted ({error.verify_message}); "
            "name with --ca the certificates that signed it"
        )
    reason = getattr(error, "reason", None) or str(error)
    if reason in _NO_TLS:
        return AcceleratorUnavailable(
            f"{endpoint} does not speak TLS; attach it as http://{endpoint.netloc}, or serve "
            "it with --cert and --key"
        )
    if any(part in reason for part in _CLIENT_REFUSED):
        return AcceleratorDenied(
            f"{endpoint} does not accept this client ({reason.lower().replace('_', ' ')}); give "
            "--cert and --key that it knows"
        )
    return AcceleratorUnavailable(f"TLS with {endpoint} failed: {reason}")


# OpenSSL's reasons, by the records of TLS 1.2 and 1.3.
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})
_CLIENT_REFUSED: Final = (
    "ALERT_ACCESS_DENIED",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_CERTIFICATE",
    "ALERT_HANDSHAKE_FAILURE",
    "ALERT_UNKNOWN_CA",
    "ALERT_UNSUPPORTED_CERTIFICATE",
)
