"""The table of all paths: what each took for each size, or why it could not be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from attrs import frozen

from benchmarks.rivals.payload import SIZES


@frozen
class Row:
    """One path; `samples` are medians in µs, one a round, by size, and empty if `missing`."""

    title: str
    samples: Mapping[str, tuple[float, ...]]
    detail: str
    missing: str | None = None

    def cells(self, echo: Row) -> list[str]:
        """Return the row as a line of the table."""
        if self.missing is not None:
            return [self.title, *["not measured"] * len(SIZES), "", f"not measured: {self.missing}"]
        ratios = " / ".join(f"{self.p50(size) / echo.p50(size):.1f}x" for size in SIZES)
        return [self.title, *map(self._reading, SIZES), ratios, self.detail]

    def p50(self, size: str) -> float:
        """Return the median over the rounds, in µs."""
        return median(self.samples[size])

    def _reading(self, size: str) -> str:
        found = self.samples[size]
        return f"{median(found):.1f} ({min(found):.1f} to {max(found):.1f})"


def header() -> list[str]:
    """Return the titles of the columns."""
    return ["path", *(f"{size}, p50 µs" for size in SIZES), "against the echo", "detail"]


def as_text(rows: Sequence[Row], echo: Row) -> str:
    """Lay rows out for a terminal."""
    cells = [header(), *(row.cells(echo) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def as_markdown(rows: Sequence[Row], echo: Row) -> str:
    """Lay rows out as a table for the documentation."""
    lines = [header(), ["---"] * len(header()), *(row.cells(echo) for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return rows as JSON has them."""
    return [
        {
            "path": row.title,
            "unit": "µs",
            "samples": {size: list(found) for size, found in row.samples.items()},
            "detail": row.detail,
            "missing": row.missing,
        }
        for row in rows
    ]
