"""Is it worth going elsewhere? One program there and on this processor, call for call."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final

from attrs import frozen

if TYPE_CHECKING:
    from eipack.session import Session

CALLS: Final = 20
_WARM_UP: Final = 3


class SlowerThanLocal(UserWarning):
    """A session elsewhere takes longer than one on this processor would."""


@frozen
class Comparison:
    """Medians over `calls` calls on the package's samples, the two taking turns."""

    there_ms: float
    here_ms: float
    calls: int


def compare(session: Session, open_local: Callable[[], Session]) -> Comparison:
    """Measure a session beside one on this processor, and warn if that is the quicker one.

    Raises:
        EipackError: One of them fails on the package's samples.
    """
    inputs, _ = session.package.samples()
    with open_local() as local:
        times: tuple[list[int], list[int]] = ([], [])
        for number in range(_WARM_UP + CALLS):
            for one, into in zip((session, local), times, strict=True):
                began = perf_counter_ns()
                one.run_flat(*inputs)
                if number >= _WARM_UP:
                    into.append(perf_counter_ns() - began)
    there, here = (median(into) / 1e6 for into in times)
    if there > here:
        warnings.warn(
            f"{session.package.name} takes {there:.2f} ms on {session.target} and {here:.2f} ms "
            f"on {local.target}",
            SlowerThanLocal,
            stacklevel=3,
        )
    return Comparison(there, here, CALLS)
