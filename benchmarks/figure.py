"""One figure: what was asked, what was measured, and the command that measures it again."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from statistics import median

from attrs import asdict, frozen

Measure = Callable[[int], list["Figure"]]


@frozen
class Figure:
    """A promise of the form «at most», and the median of what was found.

    `samples` are the readings behind it, one a fresh process; a figure that is a ratio or a
    difference of medians has the pairs' own ratios or differences there.
    """

    what: str
    asked: float
    measured: float
    unit: str
    detail: str
    command: str
    samples: tuple[float, ...]

    @property
    def verdict(self) -> str:
        """Say whether the promise is kept."""
        return "met" if self.measured <= self.asked else "missed"

    def cells(self) -> tuple[str, str, str, str, str, str]:
        """Return the figure as a line of the table."""
        reading = f"{self.measured:.4g} {self.unit}"
        if len(self.samples) > 1:
            reading += f" ({min(self.samples):.4g} to {max(self.samples):.4g})"
        asked = f"at most {self.asked:g} {self.unit}"
        return self.what, asked, reading, self.verdict, self.detail, self.command


HEADER = ("what", "asked", "measured", "verdict", "detail", "command")


def figure_of(
    what: str, asked: float, unit: str, samples: Sequence[float], command: str, detail: str = ""
) -> Figure:
    """Return a figure that is the median of its samples."""
    return Figure(what, asked, median(samples), unit, detail, command, tuple(samples))


def as_json(figures: Sequence[Figure]) -> list[dict[str, object]]:
    """Return figures as JSON has them, verdicts included."""
    return [{**asdict(one), "verdict": one.verdict} for one in figures]


def as_text(figures: Sequence[Figure]) -> str:
    """Lay figures out for a terminal, without the commands."""
    rows = [HEADER[:5], *(one.cells()[:5] for one in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def as_markdown(figures: Sequence[Figure]) -> str:
    """Lay figures out as a table for the documentation."""
    lines = ["| " + " | ".join(HEADER) + " |", "| --- " * len(HEADER) + "|"]
    for one in figures:
        *cells, command = one.cells()
        lines.append("| " + " | ".join([*cells, f"`{command}`"]) + " |")
    return "\n".join(lines)


def run(measure: Measure, repeat: int) -> None:
    """Measure one group from the command line; `repeat` is its default."""
    parser = argparse.ArgumentParser(description="Measure figures that eipack promises.")
    parser.add_argument("--repeat", type=int, default=repeat, help="fresh processes a figure")
    parser.add_argument("--json", action="store_true", help="print JSON, samples included")
    options = parser.parse_args()
    figures = measure(options.repeat)
    print(json.dumps(as_json(figures), indent=1) if options.json else as_text(figures))
