"""The ambient default target: nests, and is kept apart per thread and task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from eipack.target import Target

_DEFAULT = Target("cpu")
_current: ContextVar[Target] = ContextVar("eipack_target", default=_DEFAULT)


@contextmanager
def use(target: str | Target) -> Iterator[Target]:
    """Make a target the default of `eipack.load` within the block.

    Raises:
        TargetSyntaxError: The target cannot be parsed.
    """
    parsed = Target.parse(target)
    token = _current.set(parsed)
    try:
        yield parsed
    finally:
        _current.reset(token)


def current_target() -> Target:
    """Return the target that `load` uses when none is given: `cpu`, unless `use` says otherwise."""
    return _current.get()
