"""Which sizes of the dynamic dimensions are tested."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from math import prod

from eipack.signature import Dim

EXHAUSTIVE = 24
"""Up to so many combinations of sizes, all of them are tested."""

_MOST_PRODUCT = 4096


def size_plan(dims: tuple[Dim, ...], sample: Mapping[str, int]) -> list[dict[str, int]]:
    """List the sizes to test: the sample, each bound, the middle; small ranges exhaustively.

    Beyond `EXHAUSTIVE` combinations each dimension runs through its bounds, their neighbours and
    the middle while the others stay smallest; then all are at their middle, and all
    at their largest, unless that makes more than 4096 in all, since cost grows with the product.
    """
    full = {dim.name: _all_sizes(dim) for dim in dims}
    combinations = prod(len(sizes) if sizes else EXHAUSTIVE + 1 for sizes in full.values())
    plan = [dict(sample)]
    if combinations <= EXHAUSTIVE:
        choices = [full[dim.name] or () for dim in dims]
        plan += [dict(zip(full, sizes, strict=True)) for sizes in itertools.product(*choices)]
    else:
        plan += _crossing({dim.name: _sizes(dim, sample[dim.name]) for dim in dims})
    return [dict(key) for key in dict.fromkeys(tuple(sizes.items()) for sizes in plan)]


def _crossing(ranges: Mapping[str, Sequence[int]]) -> list[dict[str, int]]:
    smallest = {name: sizes[0] for name, sizes in ranges.items()}
    plan = [smallest]
    for name, sizes in ranges.items():
        plan += [{**smallest, name: size} for size in sizes]
    # each dimension takes another place in its range, so that no two are equal by accident
    mixed = {
        n: sizes[(len(sizes) // 2 + i) % len(sizes)] for i, (n, sizes) in enumerate(ranges.items())
    }
    largest = {name: sizes[-1] for name, sizes in ranges.items()}
    return plan + [sizes for sizes in (mixed, largest) if prod(sizes.values()) <= _MOST_PRODUCT]


def _all_sizes(dim: Dim) -> tuple[int, ...] | None:
    if dim.sizes is not None:
        return dim.sizes
    if dim.max is None or dim.max - dim.min >= EXHAUSTIVE:
        return None
    return tuple(range(dim.min, dim.max + 1))


def _sizes(dim: Dim, sample: int) -> list[int]:
    if dim.sizes is not None:
        return sorted(dim.sizes)
    top = dim.max if dim.max is not None else max(2 * sample + 1, dim.min + 7)
    near = {min(dim.min + 1, top), max(top - 1, dim.min)}
    return sorted({dim.min, *near, sample, (dim.min + top) // 2, top})
