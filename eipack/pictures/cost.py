"""The picture of advice: what every choice costs, and how long its calls take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from eipack.advisor.ranking import cost_by
from eipack.pictures import bars
from eipack.pictures.answer import (
    MEANING,
    best_of,
    figure_of,
    headline,
    prices_text,
    short,
)
from eipack.pictures.labels import SIDE, Labels, centre
from eipack.pictures.sheet import LINE, TITLE_LINE, Sheet, caption_lines, title_lines
from eipack.pictures.styles import KINDS, MUTED, drawing, format_of, save
from eipack.pictures.wording import UNKNOWN, figure

if TYPE_CHECKING:
    from eipack.advisor.advice import Advice

_HEADER: Final = 0.62
_PLOT: Final = 3.3
_UNDER: Final = 0.28 + 2 * LINE


def draw(advice: Advice, path: Path) -> Path:
    """Draw a bar of cost for every choice in the advice's order, and the latencies over them.

    The suffix says which format, .png or .svg; the file is written whole or not at all.

    Raises:
        PictureRefused: The path ends in neither.
        PackageIOError: The file cannot be written.
    """
    format_of(path)
    with drawing():
        sheet = sheet_of(advice, about=True)
        return save(sheet.figure, path)


def sheet_of(advice: Advice, *, about: bool) -> Sheet:
    """Lay out the picture, with or without what it is `about`; only within `styles.drawing`."""
    labels = Labels.of(advice)
    title = title_lines(headline(advice)) if about else []
    caption = caption_lines(_caption(advice)) if about else []
    top = _HEADER + (TITLE_LINE * len(title) + 0.6 if about else 0.0)
    below = _UNDER + labels.depth
    sheet = Sheet.blank(top + _PLOT + below + (LINE * len(caption) + 0.2 if about else 0.0))
    if about:
        sheet.header(title, _subtitle(advice))
    bars.draw(sheet.panel(top, _PLOT, left=SIDE, right=SIDE), advice)
    _under(sheet, top + _PLOT, advice)
    labels.write(sheet, top + _PLOT + _UNDER, advice)
    _legends(sheet, top, advice)
    sheet.caption(top + _PLOT + below + 0.06, caption)
    return sheet


def _subtitle(advice: Advice) -> str:
    unit = MEANING[advice.by][0].replace("USD", "US dollars")
    return f"{advice.package}: {unit} (bars) and {short(figure_of(advice))} latency (line)"


def _caption(advice: Advice) -> tuple[str, ...]:
    unpriced = sum(cost_by(choice, advice.by) is None for choice in advice.choices)
    return (
        MEANING[advice.by][1],
        *prices_text(advice.prices),
        f"{unpriced} without a known cost: no bar" if unpriced else "",
    )


def _under(sheet: Sheet, top: float, advice: Advice) -> None:
    """Write the kind, the cost and the latency of every choice under its bar."""
    count = len(advice.choices)
    small = 8.0 if count <= 12 else 7.0 if count <= 18 else 6.3
    name = figure_of(advice)
    heads: dict[str, Any] = {"ha": "right", "size": 7, "color": MUTED}
    first = SIDE - 0.06
    sheet.write(first, top + 0.28, "USD", **heads)
    sheet.write(first, top + 0.28 + LINE, f"{short(name)} ms", **heads)
    costs, best = _costs(advice), best_of(advice)
    for number, choice in enumerate(advice.choices):
        x = centre(number, count)
        _badge(sheet, x, top + 0.15, choice.kind)
        weight = "bold" if number == best else "normal"
        cell: dict[str, Any] = {"ha": "center", "size": small, "weight": weight}
        sheet.write(x, top + 0.28, costs[number], **cell)
        sheet.write(x, top + 0.28 + LINE, figure(choice.latencies.get(name)), **cell)


def _badge(sheet: Sheet, x: float, middle: float, kind: str) -> None:
    box = {"boxstyle": "round,pad=0.22", "facecolor": KINDS[kind][0], "edgecolor": "none"}
    look: dict[str, Any] = {"size": 6.5, "weight": "bold", "color": "white", "bbox": box}
    sheet.write(x, middle, bars.LETTERS[kind], ha="center", va="center", **look)


def _costs(advice: Advice) -> list[str]:
    """Write every cost with the same digits, in cents where those tell them apart."""
    costs = [cost_by(choice, advice.by) for choice in advice.choices]
    least = min((cost.usd for cost in costs if cost and cost.usd > 0), default=1.0)
    digits = 0 if least >= 100 else 2 if least >= 0.05 else 3 if least >= 0.005 else 4
    return [UNKNOWN if cost is None else f"{cost.usd:,.{digits}f}" for cost in costs]


def _legends(sheet: Sheet, plot: float, advice: Advice) -> None:
    """Tell the kinds in one line, and the rest in the next."""
    sheet.legend(plot - 0.57, bars.kind_handles(advice))
    sheet.legend(plot - 0.37, bars.mark_handles(advice))
