"""The picture of a report: how the latencies of each row are spread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from eipack.pictures import strips, sweep
from eipack.pictures.sheet import (
    LINE,
    TITLE_LINE,
    Sheet,
    caption_lines,
    title_lines,
    title_of,
)
from eipack.pictures.styles import drawing, format_of, save
from eipack.pictures.wording import caption_of, package_of

if TYPE_CHECKING:
    from eipack.measuring.report import Report

_HEADER: Final = 0.87
_AXIS: Final = 0.5
_GAP: Final = 0.34
_SUBTITLE: Final = "From a call to its outputs on the host, in ms; further left is faster."


def draw(report: Report, path: Path) -> Path:
    """Draw the distribution of every row, and latency against throughput where loads varied.

    The suffix says which format, .png or .svg; the file is written whole or not at all.

    Raises:
        PictureRefused: The path ends in neither.
        PackageIOError: The file cannot be written.
    """
    format_of(path)
    with drawing():
        return save(sheet_of(report).figure, path)


def sheet_of(report: Report) -> Sheet:
    """Lay out the picture; only within `styles.drawing`."""
    caption = caption_lines(caption_of(report))
    loads = sweep.series_of(report.rows)
    body = strips.height_of(report.rows) + _AXIS
    second = _GAP + sweep.height_of(loads) if loads else 0.0
    foot = 0.16 + LINE * len(caption) + 0.12
    title = title_lines(f"Latency of {package_of(report.environment)}")
    top = _HEADER + TITLE_LINE * len(title)
    sheet = Sheet.blank(top + body + second + foot)
    sheet.header(title, _SUBTITLE)
    axes = sheet.panel(top, strips.height_of(report.rows))
    strips.draw(axes, report.rows)
    sheet.legend(top - 0.32, strips.legend_handles(report.rows))
    if loads:
        panel = sheet.panel(top + body + _GAP, sweep.HEIGHT, left=0.85)
        title_of(panel, "Latency under load")
        sweep.draw(panel, loads)
    sheet.caption(sheet.height - foot + 0.16, caption)
    return sheet
