"""Running elsewhere when an accelerator is lost, if that was asked for by name; counted."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

from eipack.target import Target

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.errors import EipackError
    from eipack.session import Session


class Fallback:
    """A second session, opened at the first call that needs it; safe between threads."""

    def __init__(self, target: Target, open_session: Callable[[Target], Session]) -> None:
        self._open = open_session
        self._lock = Lock()
        self._session: Session | None = None
        self.target = target
        self.calls = 0
        self.reason: str | None = None

    def run(self, leaves: tuple[Tensor, ...], error: EipackError) -> tuple[Tensor, ...]:
        """Run a call that could not be run where it should have been, because of `error`.

        Raises:
            EipackError: It cannot be run here either.
        """
        with self._lock:
            if self._session is None:
                self._session = self._open(self.target)
            self.calls += 1
            self.reason = str(error)
            session = self._session
        return session.run_flat(*leaves)

    def close(self) -> None:
        """Close the second session, if there is one."""
        with self._lock:
            if self._session is not None:
                self._session.close()
