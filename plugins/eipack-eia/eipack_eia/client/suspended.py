"""What stands in place of an accelerator that a session may not use, or not any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from attrs import frozen

from eipack.errors import AcceleratorUnavailable
from eipack_eia.attached import Attached

if TYPE_CHECKING:
    from torch import Tensor


@frozen
class Suspended:
    """A lent accelerator that may be another client's by now; the next call asks its lender."""

    attached: Attached
    why: str

    def call(self, key: Any, inputs: tuple[Tensor, ...]) -> NoReturn:
        """Refuse.

        Raises:
            AcceleratorUnavailable: Always; nothing was sent.
        """
        raise AcceleratorUnavailable(f"{self.attached} is lost: {self.why}", sent=False)

    def open(self) -> None:
        """Refuse, as `call` does."""
        self.call(None, ())

    def details(self) -> dict[str, Any]:
        """Say why it may not be used."""
        return {"lost": self.why}

    def close(self) -> None:
        """Do nothing: it holds nothing."""

    def forget(self) -> None:
        """Do nothing, as `close`."""
