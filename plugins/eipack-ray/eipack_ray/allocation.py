"""Which accelerator of a pool a client gets: rules alone, without clocks, sockets or Ray.

The registry of a pool runs them, and `benchmarks/pool_day.py` runs them through a day.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from attrs import frozen

SHARERS: Final = 4
"""How many clients share one accelerator before the next one is opened to them."""


@frozen
class Candidate:
    """An accelerator that is ready, as the rules see it; `node` is the host that it runs on."""

    id: str
    type: str
    memory_bytes: int
    node: str
    holders: int = 0
    exclusive: bool = False


@frozen
class Wish:
    """What a client asks for; any type where it names none.

    `elsewhere` are the nodes on which it has accelerators already.
    """

    type: str | None = None
    shared: bool = False
    elsewhere: frozenset[str] = frozenset()


def choose(candidates: Sequence[Candidate], wish: Wish) -> Candidate | None:
    """Choose an accelerator for a client; None if none is free for it.

    One of the type asked for, else the smallest. A client that shares joins those who do before
    it opens another accelerator. Second accelerators of a client come from another node, so that
    both are not lost at once. Beyond that the fullest node is taken: nodes without clients are
    what a pool can give up when it shrinks.
    """
    fitting = [one for one in candidates if _fits(one, wish)]
    if not fitting:
        return None
    taken = _taken(candidates)

    def order(one: Candidate) -> tuple[int | str | bool, ...]:
        joined = one.holders or SHARERS
        return (
            one.memory_bytes,
            one.node in wish.elsewhere,
            joined if wish.shared else 0,
            -taken[one.node],
            one.id,
        )

    return min(fitting, key=order)


def spare(candidates: Sequence[Candidate], type_name: str, count: int) -> list[Candidate]:
    """Choose accelerators that a pool gives up: free ones, from the emptiest nodes first."""
    taken = _taken(candidates)
    free = [one for one in candidates if not one.holders and one.type == type_name]
    return sorted(free, key=lambda one: (taken[one.node], one.node, one.id))[:count]


def _fits(one: Candidate, wish: Wish) -> bool:
    if wish.type not in (None, one.type):
        return False
    if not wish.shared:
        return not one.holders
    return not one.exclusive and one.holders < SHARERS


def _taken(candidates: Iterable[Candidate]) -> Counter[str]:
    return Counter(one.node for one in candidates if one.holders)
