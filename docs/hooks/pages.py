"""What the pages take from the code when the site is built."""

# ruff: noqa: INP001 - mkdocs loads this file by its path
from __future__ import annotations

import builtins
import inspect
from typing import Any

from eipack import errors

_MARKER = "<!-- errors -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put a table for each family of errors in place of the marker."""
    return markdown.replace(_MARKER, error_tables()) if _MARKER in markdown else markdown


def error_tables() -> str:
    """Return each family of eipack's errors with its classes, as Markdown."""
    lines: list[str] = []
    for family in errors.EipackError.__subclasses__():
        lines += [f"## {family.__name__} {{#eipack.errors.{family.__name__}}}", ""]
        lines += [_sentence(family), ""]
        lines += ["| error | is also a | says that |", "| --- | --- | --- |"]
        lines += [_row(error) for error in family.__subclasses__()]
        lines.append("")
    return "\n".join(lines)


def _row(error: type[errors.EipackError]) -> str:
    # The empty link is an anchor: what a docstring lists under Raises leads to it.
    name = f"[](){{#eipack.errors.{error.__name__}}}`{error.__name__}`"
    bases = [base.__name__ for base in error.__bases__ if base.__module__ == builtins.__name__]
    return f"| {name} | {', '.join(f'`{base}`' for base in bases)} | {_sentence(error)} |"


def _sentence(error: type[errors.EipackError]) -> str:
    return str(inspect.getdoc(error)).partition("\n\n")[0].replace("\n", " ")
