"""Reading a CSV table that a person wrote; what is wrong with it is told by file and line."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from attrs import frozen

from eipack.errors import TableRefused


@frozen
class Line:
    """One line of a table, and where it stands; empty cells are left out of `cells`."""

    path: str
    number: int
    cells: Mapping[str, str]

    @property
    def place(self) -> str:
        """Say where this is: `prices.csv:7`."""
        return f"{self.path}:{self.number}"

    def text(self, column: str) -> str:
        """Return a cell that has to be there.

        Raises:
            TableRefused: It is empty.
        """
        if column not in self.cells:
            raise self.wrong(f"{column} is empty; every line needs one")
        return self.cells[column]

    def positive(self, column: str) -> float | None:
        """Return a number above 0, or None for an empty cell.

        Raises:
            TableRefused: It is no such number.
        """
        if column not in self.cells:
            return None
        text = self.cells[column]
        try:
            value = float(text)
        except ValueError as error:
            raise self.wrong(f"{column} is {text!r}; write a number such as 0.085") from error
        if not 0 < value < math.inf:
            raise self.wrong(f"{column} is {text}; it has to be a number above 0")
        return value

    def wrong(self, what: str) -> TableRefused:
        """Return the error that says what is wrong here."""
        return TableRefused(f"{self.place}: {what}", path=self.path, line=self.number)


def read_table(
    path: str | os.PathLike[str],
    *,
    required: Sequence[str],
    known: Collection[str],
    aliases: Mapping[str, str] | None = None,
) -> list[Line]:
    """Return the lines under the heading; columns that nobody knows are left alone.

    Raises:
        TableRefused: The file cannot be read, is not UTF-8 or no table, lacks a column or has it
            twice, has no lines, or a column's name is nearly that of a known one.
    """
    name = os.fspath(path)
    rows = _rows(name, _text(name))
    if not rows:
        raise _about(name, f"it is empty; write a heading with {', '.join(required)}, then lines")
    (_, heading), *lines = rows
    columns = [(aliases or {}).get(one.strip(), one.strip()) for one in heading]
    _check_columns(name, columns, required, known)
    if not lines:
        raise _about(name, "it has a heading and no lines under it")
    return [_line(name, number, columns, cells) for number, cells in lines]


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _about(path, "it is not UTF-8; save it as CSV in UTF-8") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TableRefused(f"cannot read {path}: {reason}", path=path) from error


def _rows(path: str, text: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise _about(path, f"line {reader.line_num} is no CSV: {error}") from error


def _check_columns(
    path: str, columns: Sequence[str], required: Sequence[str], known: Collection[str]
) -> None:
    twice = sorted({column for column in columns if column and columns.count(column) > 1})
    if twice:
        raise _about(path, f"it has the column {twice[0]} twice")
    for column in columns:
        near = [] if column in known else get_close_matches(column, known, n=1, cutoff=0.8)
        if near and near[0] not in columns:
            raise _about(path, f"nobody knows its column {column!r}; did you mean {near[0]}?")
    missing = [column for column in required if column not in columns]
    if missing:
        raise _about(path, f"it has no column {missing[0]}; it needs {', '.join(required)}")


def _line(path: str, number: int, columns: Sequence[str], cells: Sequence[str]) -> Line:
    if len(cells) != len(columns):
        raise TableRefused(
            f"{path}:{number}: it has {len(cells)} cells and the heading {len(columns)}; "
            "write as many commas in every line",
            path=path,
            line=number,
        )
    pairs = ((column, cell.strip()) for column, cell in zip(columns, cells, strict=True))
    return Line(path, number, {column: cell for column, cell in pairs if cell})


def _about(path: str, what: str, **data: Any) -> TableRefused:
    return TableRefused(f"{path}: {what}", path=path, **data)
