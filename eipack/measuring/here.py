"""A subject in this process, asked as a child is."""

from __future__ import annotations

from typing import Any, Protocol

from eipack.children import Lost
from eipack.errors import EipackError, ParityFailed
from eipack.measuring.subject import Subject


class Host(Protocol):
    """Where a subject lives: a child process, or this one."""

    def call(self, do: str, within_s: float, **asked: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            Lost: It fails.
        """

    def end(self) -> None:
        """Let go of everything."""


class Here:
    """A subject in this process; nothing bounds the time that it takes."""

    def __init__(self) -> None:
        self._subject = Subject()

    def call(self, do: str, within_s: float, **asked: Any) -> dict[str, Any]:
        """Do what is asked.

        Raises:
            Lost: It fails.
        """
        try:
            answer: dict[str, Any] = getattr(self._subject, do)(asked)
        except EipackError as error:
            wrong = isinstance(error, ParityFailed)
            raise Lost("wrong" if wrong else "failed", str(error), error) from error
        return answer

    def end(self) -> None:
        """Close the session."""
        self._subject.close({})
