"""How errors travel: a status and an error body on the wire, the same class on both sides.

The body is the protocol's `{"error": "..."}`; the class goes in a header, which other clients
do not read.
"""

from __future__ import annotations

from typing import Final

import msgspec

from eipack import errors
from eipack.errors import EipackError, ExecutionFailed, ProtocolError

KIND_HEADER: Final = "eipack-error"

_STATUSES: Final[dict[type[EipackError], int]] = {
    errors.AcceleratorDenied: 403,
    errors.AcceleratorFull: 507,
    errors.AcceleratorOverloaded: 503,
    errors.AcceleratorUnavailable: 503,
    errors.DeadlineExceeded: 504,
    errors.ExecutionFailed: 500,
    errors.PackageIOError: 507,
    errors.ProgramNotFound: 404,
    errors.ProtocolError: 400,
    errors.SignatureMismatch: 400,
    errors.UntrustedPackage: 403,
}
_OF_PACKAGES: Final = 422


def status_of(error: EipackError) -> int:
    """Return the HTTP status that an error travels with."""
    for kind in type(error).__mro__:
        if kind in _STATUSES:
            return _STATUSES[kind]
    if isinstance(error, errors.PackageError | errors.TrustError):
        return _OF_PACKAGES
    return 500


def error_body(message: str) -> bytes:
    """Return the protocol's body of an error."""
    return msgspec.json.encode({"error": message})


def error_from(status: int, kind: str | None, body: bytes, where: str) -> EipackError:
    """Return the error that an answer carries; an unknown one by its `status` alone."""
    try:
        document = msgspec.json.decode(body)
        said = str(document["error"]) if isinstance(document, dict) else ""
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError):
        said = ""
    named = getattr(errors, kind, None) if kind and kind.isidentifier() else None
    if isinstance(named, type) and issubclass(named, EipackError):
        return named(said or f"{where} answered with status {status}")
    message = f"{where} answered with status {status}" + (f": {said[:300]}" if said else "")
    fitting = _BY_STATUS.get(status, ExecutionFailed if status >= 500 else ProtocolError)
    return fitting(message, status=status)


_BY_STATUS: Final[dict[int, type[EipackError]]] = {
    401: errors.AcceleratorDenied,
    403: errors.AcceleratorDenied,
    429: errors.AcceleratorOverloaded,
    503: errors.AcceleratorOverloaded,
    504: errors.DeadlineExceeded,
    507: errors.AcceleratorFull,
}
