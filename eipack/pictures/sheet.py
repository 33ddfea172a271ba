"""A sheet of panels and texts, placed in inches from its top."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from eipack.pictures.styles import INK, MUTED

if TYPE_CHECKING:
    from matplotlib import figure  # noqa: TC004 - attrs does not evaluate it, and it is heavy
    from matplotlib.axes import Axes

WIDTH: Final = 8.0
MARGIN: Final = 0.3
INSIDE: Final = WIDTH - 2 * MARGIN
LINE: Final = 0.16
TITLE_LINE: Final = 0.25
_TITLE: Final = 12.5
_CAPTION: Final = 7.0
_DPI: Final = 150
_ELLIPSIS: Final = "…"


@frozen
class Sheet:
    """A figure `WIDTH` inches wide; text is measured as it will be drawn."""

    figure: figure.Figure
    height: float

    @classmethod
    def blank(cls, height: float) -> Sheet:
        """Return an empty one; only within `styles.drawing`."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH, height))
        FigureCanvasAgg(figure)
        return cls(figure, height)

    def panel(self, top: float, height: float, left: float = MARGIN, right: float = MARGIN) -> Axes:
        """Add axes that fill the width between two margins."""
        bottom = self.height - top - height
        box = (left, bottom, WIDTH - left - right, height)
        scale = (WIDTH, self.height, WIDTH, self.height)
        x, y, wide, high = (one / of for one, of in zip(box, scale, strict=True))
        return self.figure.add_axes((x, y, wide, high))

    def write(self, x: float, top: float, text: str, **how: Any) -> None:
        """Write a line whose top is there."""
        style = {"va": "top", "ha": "left", "size": 9, **how}
        self.figure.text(x / WIDTH, 1 - top / self.height, drawable(text), **style)

    def header(self, title: Sequence[str], subtitle: str) -> None:
        """Write the lines of the title, and what it is about."""
        for number, line in enumerate(title):
            self.write(MARGIN, 0.22 + number * TITLE_LINE, line, size=_TITLE, weight="bold")
        below = 0.22 + len(title) * TITLE_LINE + 0.05
        self.write(MARGIN, below, fit(subtitle, INSIDE, 9), color=MUTED)

    def legend(self, top: float, handles: Sequence[Any]) -> None:
        """Set the entries of a legend in a line."""
        if handles:
            place = MARGIN / WIDTH, 1 - top / self.height
            look: dict[str, Any] = {"columnspacing": 1.5, "handlelength": 1.6, "borderpad": 0}
            ncols = len(handles)
            self.figure.legend(
                handles=handles, loc="upper left", bbox_to_anchor=place, ncols=ncols, **look
            )

    def caption(self, top: float, lines: Iterable[str]) -> None:
        """Write small lines, one under another."""
        for number, line in enumerate(lines):
            self.write(MARGIN, top + number * LINE, line, size=_CAPTION, color=MUTED)


def caption_lines(parts: Iterable[str], width: float = INSIDE) -> list[str]:
    """Set parts one after another, as many a line as fit into `width` inches."""
    lines = list[str]()
    for part in (drawable(part) for part in parts if part):
        longer = f"{lines[-1]} · {part}" if lines else part
        if lines and text_width(longer, _CAPTION) <= width:
            lines[-1] = longer
        else:
            lines.append(fit(part, width, _CAPTION))
    return lines


def title_lines(text: str) -> list[str]:
    """Break a title between words; what does not fit into three lines is left out."""
    lines = [""]
    for word in drawable(text).split():
        longer = f"{lines[-1]} {word}".lstrip()
        if not lines[-1] or text_width(longer, _TITLE, bold=True) <= INSIDE:
            lines[-1] = longer
        else:
            lines.append(word)
    last = [*lines[:2], " ".join(lines[2:])] if len(lines) > 2 else lines
    return [fit(line, INSIDE, _TITLE, bold=True) for line in last]


@cache
def _ruler() -> Any:
    from matplotlib.backends import backend_agg

    renderer: Any = backend_agg.RendererAgg  # it has no types
    return renderer(1, 1, _DPI)


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width in inches of a text of `size` points."""
    from matplotlib.font_manager import FontProperties

    font = FontProperties(size=size, weight="bold" if bold else "normal")
    width, _, _ = _ruler().get_text_width_height_descent(text, font, ismath=False)
    return float(width) / _DPI


def fit(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """Shorten a text in its middle until it fits into `width` inches."""
    whole = drawable(text)
    if text_width(whole[:500], size, bold=bold) <= width and len(whole) <= 500:
        return whole
    least, most = 0, min(len(whole), 500)
    while least < most:
        kept = (least + most + 1) // 2
        if text_width(_shortened(whole, kept), size, bold=bold) <= width:
            least = kept
        else:
            most = kept - 1
    return _shortened(whole, least)


def _shortened(text: str, kept: int) -> str:
    head = (kept + 1) // 2
    return text[:head].rstrip() + _ELLIPSIS + text[len(text) - (kept - head) :].lstrip()


def drawable(text: str) -> str:
    """Escape, as Python spells them, the characters that are not printable or not in the font."""
    if text.isascii() and text.isprintable():
        return text
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    return "".join(
        char
        if char.isprintable() and ord(char) in known
        else char.encode("unicode_escape").decode()
        for char in text
    )


def title_of(axes: Axes, text: str) -> None:
    """Put a small heading over a panel, at its left."""
    axes.set_title(fit(text, INSIDE, 10, bold=True), loc="left", size=10, weight="bold", color=INK)
