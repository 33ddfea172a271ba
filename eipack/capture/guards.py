"""What torch.export says of sizes: which of the declared ones would take another path.

Its report names each assumption ("guard") as a Python expression over the sizes of inputs, as
`L['x'].size()[0] != 512`. Read over the declared range, they tell which sizes to test
a trace at, and which range would be free of them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from eipack.capture.dims import Shapes
from eipack.signature import Dim, DimSize

_GUARD = re.compile(r"satisfy the generated guard (.+?)\.?$", re.MULTILINE)
_SIZE = re.compile(r"L\['(\w+)'\]\.size\(\)\[(\d+)\]")
_MOST = 4096
"""How many combinations of sizes are looked at."""


def guards_in(report: str) -> list[str]:
    """Return the guards that torch.export's report names."""
    return [found.strip() for found in _GUARD.findall(report)]


def violations(
    guards: Sequence[str],
    shapes: Shapes,
    identifiers: Sequence[str],
    sample: Mapping[str, int],
) -> list[dict[str, int]] | None:
    """List declared sizes at which a guard does not hold, other dimensions as in the sample.

    None where a guard cannot be read. A guard never counts against size 1, which torch.export
    always sets apart.
    """
    found: list[dict[str, int]] = []
    for guard in guards:
        expression, names = _in_dims(guard, shapes, identifiers)
        if expression is None:
            return None
        ranges = [_range(shapes.dim(name), sample[name], len(names)) for name in names]
        for sizes in itertools.product(*ranges):
            at = dict(zip(names, sizes, strict=True))
            holds = _holds(expression, at)
            if holds is None:
                return None
            if not holds and 1 not in sizes:
                found.append({**sample, **at})
    return found


def _in_dims(
    guard: str, shapes: Shapes, identifiers: Sequence[str]
) -> tuple[str | None, list[str]]:
    """Rewrite a guard over inputs' sizes as one over dimensions, `d0`, `d1`, …."""
    names: list[str] = []

    def replace(match: re.Match[str]) -> str:
        size = shapes.inputs[identifiers.index(match[1])][int(match[2])]
        if not isinstance(size, DimSize):
            return str(size)
        if size.dim not in names:
            names.append(size.dim)
        return f"({size.factor} * d{names.index(size.dim)} + {size.offset})"

    try:
        expression = _SIZE.sub(replace, guard)
    except (ValueError, IndexError):
        return None, []
    return (None, []) if "L[" in expression else (expression, names)


def _holds(expression: str, at: Mapping[str, int]) -> bool | None:
    names = {f"d{index}": size for index, size in enumerate(at.values())}
    try:
        return bool(eval(expression, {"__builtins__": {}}, names))  # noqa: S307 - torch's own text
    except Exception:  # noqa: BLE001 - whatever it is, it is no expression over sizes
        return None


def _range(dim: Dim, sample: int, count: int) -> range:
    most = int(_MOST ** (1 / max(1, count)))
    top = dim.max if dim.max is not None else max(4 * sample, dim.min + 64)
    return range(dim.min, min(top, dim.min + most) + 1)


def free_range(found: Sequence[Mapping[str, int]], dim: Dim, sample: int) -> Dim | None:
    """Return the range around the sample with no violation in it, None if it is the whole."""
    sizes = {at[dim.name] for at in found}
    below = [size for size in sizes if size < sample]
    above = [size for size in sizes if size > sample]
    low = max(below) + 1 if below else dim.min
    high = min(above) - 1 if above else dim.max
    return None if (low, high) == (dim.min, dim.max) else Dim(dim.name, low, high)


def spread(found: Sequence[Any], most: int) -> list[Any]:
    """Choose at most so many, evenly, the first and the last among them."""
    if len(found) <= most:
        return list(found)
    return [found[round(i * (len(found) - 1) / (most - 1))] for i in range(most)]
