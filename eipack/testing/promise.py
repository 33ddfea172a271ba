"""What a check of the kit is: a promise of the contract, and a failure that names it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar, cast

import pytest

from eipack.testing.base import ContractBase

Kit = TypeVar("Kit", bound=ContractBase)
Fixtures = ParamSpec("Fixtures")
Check = Callable[Concatenate[Kit, Fixtures], None]


class BrokenPromise(AssertionError):
    """A backend does not keep the contract; the message says which promise and how."""


def promise(check: Check[Kit, Fixtures]) -> Check[Kit, Fixtures]:
    """Make a test whose docstring says, in the imperative, what every backend promises."""
    text = " ".join((check.__doc__ or "").split())

    @wraps(check)
    def kept(self: Kit, *args: Fixtures.args, **kwargs: Fixtures.kwargs) -> None:
        try:
            check(self, *args, **kwargs)
        except (Exception, pytest.fail.Exception) as error:
            raise BrokenPromise(
                f"{self.target!r} breaks a promise of the contract: {text}\n{_told(error)}"
            ) from error

    return cast("Check[Kit, Fixtures]", kept)


def _told(error: BaseException) -> str:
    if isinstance(error, AssertionError | pytest.fail.Exception):
        return str(error)
    return f"{type(error).__name__}: {error}"
