"""ONNX Runtime's errors, and those of the converters, in eipack's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from eipack.errors import (
    CaptureError,
    DependencyMissing,
    EipackError,
    UnsupportedModel,
)
from eipack.session import reason_of


@contextmanager
def unsupported(doing: str) -> Iterator[None]:
    """Report what stops a program on its way into ONNX Runtime as UnsupportedModel.

    `doing` completes "ONNX Runtime cannot ...".

    Raises:
        UnsupportedModel: An operator, a dtype or a construct is not there.
    """
    try:
        yield
    except (OSError, MemoryError):
        raise  # of the machine, and not of the program
    except EipackError as error:
        if not isinstance(error, CaptureError) or isinstance(error, DependencyMissing):
            raise
        raise UnsupportedModel(f"ONNX Runtime cannot {doing}: {error}") from error
    except Exception as error:
        raise UnsupportedModel(f"ONNX Runtime cannot {doing}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return ONNX Runtime's own line without its code."""
    line = reason_of(error)
    return line.split(" : ", 3)[-1] if line.startswith("[ONNXRuntimeError]") else line
