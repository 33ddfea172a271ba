"""What commands print: tables and facts for people, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDE: Final = 1000


def console(*, err: bool = False, wide: bool = False) -> Console:
    """Return a rich console; it prints text as it is, colours only on a terminal.

    No line of a `wide` one is wrapped, and of no other in a pipe, unless COLUMNS says how wide
    one may be.
    """
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    fits = not wide and (stream.isatty() or os.environ.get("COLUMNS"))
    width = None if fits else _WIDE
    return Console(stderr=err, width=width, markup=False, highlight=False, emoji=False)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()
) -> None:
    """Print rows under headings; the columns named in `right` are aligned to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(printable, row))
    _print(table, console(wide=True))  # whole words matter more than whole lines


def _print(table: Table, terminal: Console) -> None:
    with terminal.capture() as text:
        terminal.print(table)
    for line in text.get().splitlines():
        # rich fills the last column with blanks
        click.echo(line.rstrip(), color=terminal.is_terminal)


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print labelled lines; a label that repeats the one above is left out."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="cyan", overflow="fold")
    table.add_column(overflow="fold")
    above = ""
    for label, text in facts:
        table.add_row("" if label == above else printable(label), printable(text))
        above = label
    _print(table, console())


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(printable_json(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)))


def note(text: str) -> None:
    """Tell a person something beside the result, on stderr."""
    click.echo(f"eipack: {printable(text)}", err=True)


def printable(text: str) -> str:
    """Escape what could steer a terminal or mislead the eye, as Python spells it.

    A package's texts are whatever its maker wrote, and are shown before anybody trusts them.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_json(text: str) -> str:
    """Escape the same in JSON, which then still means what it meant."""
    return "".join(c if c.isprintable() or c == "\n" else _json_escape(c) for c in text)


def _json_escape(char: str) -> str:
    pairs = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{pairs[at : at + 2].hex()}" for at in range(0, len(pairs), 2))


def size_text(nbytes: int) -> str:
    """Write a number of bytes for people, in powers of 1000."""
    if nbytes < 1000:
        return f"{nbytes} B"
    value = float(nbytes)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def plural(count: int, noun: str) -> str:
    """Write a count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
