"""The names under the bars: in lines where they fit under one another, slanted where not."""

from __future__ import annotations

import re
from math import cos, radians, sin
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from eipack.pictures.answer import best_of, names_of, qualifies
from eipack.pictures.sheet import LINE, WIDTH, Sheet, drawable, fit, text_width
from eipack.pictures.styles import INK, MUTED

if TYPE_CHECKING:
    from eipack.advisor.advice import Advice

SIDE: Final = 0.9
_ANGLE: Final = 60
_COS: Final = cos(radians(_ANGLE))
_SIN: Final = sin(radians(_ANGLE))
_SIZE: Final = 7.5
_LONGEST: Final = 2.3


def centre(number: int, count: int) -> float:
    """Return where a bar stands, in inches from the left of the sheet."""
    return SIDE + (WIDTH - 2 * SIDE) / count * (number + 0.5)


@frozen
class Labels:
    """The names as they will be written, and the depth in inches that they take."""

    names: tuple[tuple[str, ...], ...]
    slanted: bool
    depth: float

    @classmethod
    def of(cls, advice: Advice) -> Labels:
        """Lay out the names of all choices."""
        best, count = best_of(advice), len(advice.choices)
        names = [drawable(name) for name in names_of(advice)]
        starred = [f"★ {name}" if at == best else name for at, name in enumerate(names)]
        broken = [tuple(re.split(r" (?=(?:\+|on|by|in) )", name)) for name in starred]
        slot = (WIDTH - 2 * SIDE) / max(count, 1)
        if all(_width(line) < slot - 0.08 for lines in broken for line in lines):
            most = max(map(len, broken), default=0)
            return cls(tuple(broken), slanted=False, depth=most * LINE + 0.16)
        # What is slanted ends before the edge of the sheet.
        rooms = [min((centre(at, count) - 0.22) / _COS, _LONGEST) for at in range(count)]
        fitted = [
            fit(one, room, _SIZE, bold=True) for one, room in zip(starred, rooms, strict=True)
        ]
        depth = max(map(_width, fitted)) * _SIN + 0.22
        return cls(tuple((name,) for name in fitted), slanted=True, depth=depth)

    def write(self, sheet: Sheet, top: float, advice: Advice) -> None:
        """Write them under their bars."""
        best = best_of(advice)
        for at, (lines, choice) in enumerate(zip(self.names, advice.choices, strict=True)):
            how: dict[str, Any] = {
                "size": _SIZE,
                "weight": "bold" if at == best else "normal",
                "color": INK if qualifies(choice) else MUTED,
                "ha": "center",
            }
            x = centre(at, len(self.names))
            if self.slanted:
                how |= {"rotation": _ANGLE, "rotation_mode": "anchor", "ha": "right"}
                sheet.write(x - 0.02, top + 0.06, lines[0], **how)
                continue
            for number, line in enumerate(lines):
                sheet.write(x, top + 0.06 + number * LINE, line, **how)


def _width(line: str) -> float:
    return text_width(line[:200], _SIZE, bold=True)
