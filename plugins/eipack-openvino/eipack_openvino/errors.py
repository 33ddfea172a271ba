"""What OpenVINO says went wrong, in one line, as errors of eipack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from eipack.errors import EipackError, UnsupportedModel

_LACKING: Final = "No conversion rule found for operations: "
_SURROUNDINGS: Final = (
    "Check '",
    "Converting input model",
    "Exception from ",
    "FrontEnd API failed",
    "Model wasn't fully converted",
    "Summary:",
    "-- Conversion is failed for",
)
_LONGEST: Final = 300


def reason_of(error: Exception) -> str:
    """Return the line of OpenVINO's message that says what went wrong, not where."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in lines:
        if _LACKING in line:
            return f"it lacks {line.partition(_LACKING)[2]}"
    telling = [line for line in lines if not line.startswith(_SURROUNDINGS)]
    return (telling or lines or [type(error).__name__])[-1][:_LONGEST]


@contextmanager
def unsupported() -> Iterator[None]:
    """Raise what OpenVINO cannot convert or compile as UnsupportedModel.

    Raises:
        UnsupportedModel: It raised anything; errors of eipack stay as they are.
    """
    try:
        yield
    except (EipackError, OSError):
        raise
    except Exception as error:  # its errors have no base of their own
        raise UnsupportedModel(
            f"OpenVINO cannot run this program: {reason_of(error)}; use another engine"
        ) from error
