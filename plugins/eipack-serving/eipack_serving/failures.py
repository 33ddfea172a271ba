"""What a service answers instead of outputs: a class and an HTTP status for each reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from eipack.errors import (
    AcceleratorOverloaded,
    AcceleratorUnavailable,
    DeadlineExceeded,
    ProtocolError,
    SessionClosed,
    SessionError,
    SignatureMismatch,
)


class BadRequest(SignatureMismatch):
    """The request does not fit the model's signature, or cannot be read."""

    status = 400


class Unavailable(SessionError, RuntimeError):
    """The service drains or is closed, or its accelerator is overloaded or lost; try again."""

    status = 503


_UNAVAILABLE: Final = (AcceleratorOverloaded, AcceleratorUnavailable, SessionClosed)
_FAILED: Final = 500
_TOO_LATE: Final = 504


@contextmanager
def answering() -> Iterator[None]:
    """Turn the errors of a session into those that a client is answered with.

    Raises:
        BadRequest: The inputs do not fit the signature, or the request breaks the protocol.
        Unavailable: The accelerator is overloaded or lost, or the session was closed.
    """
    try:
        yield
    except (BadRequest, Unavailable):
        raise
    except (SignatureMismatch, ProtocolError) as error:
        raise BadRequest(str(error), **error.data) from error
    except _UNAVAILABLE as error:
        raise Unavailable(str(error), **error.data) from error


def status_of(error: BaseException) -> int:
    """Return the HTTP status of an error: 400, 503, 504 for a deadline, 500 for all others."""
    if isinstance(error, BadRequest | Unavailable):
        return error.status
    return _TOO_LATE if isinstance(error, DeadlineExceeded) else _FAILED
