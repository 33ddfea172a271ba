"""Reads pictures and pages back."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from eipack.pictures.sheet import Sheet

_SVG = "{http://www.w3.org/2000/svg}"


def texts(path: Path) -> list[str]:
    """Return the texts of an SVG in their order."""
    return ["".join(one.itertext()) for one in ET.parse(path).iter(f"{_SVG}text")]


def ids(path: Path) -> set[str]:
    return {one.attrib["id"] for one in ET.parse(path).iter() if "id" in one.attrib}


def boxes(sheet: Sheet) -> Iterator[tuple[str, Any]]:
    """Return every text that is seen, and its place in pixels."""
    renderer = sheet.figure.canvas.get_renderer()
    seen = []
    renderer.draw_text = lambda *_, mtext, **__: seen.append(mtext)
    sheet.figure.draw(renderer)
    for one in seen:
        yield one.get_text(), one.get_window_extent(renderer)


def outside(sheet: Sheet) -> list[str]:
    """Return the texts that do not lie wholly on the sheet."""
    whole = sheet.figure.bbox
    return [
        text
        for text, box in boxes(sheet)
        if box.x0 < 0 or box.y0 < 0 or box.x1 > whole.x1 or box.y1 > whole.y1
    ]


def overlapping(sheet: Sheet) -> list[tuple[str, str]]:
    """Return the pairs of upright texts that cover each other by more than a hair."""
    flat = [(text, box.padded(-1.5)) for text, box in boxes(sheet)]
    return [(one, two) for (one, a), (two, b) in combinations(flat, 2) if a.overlaps(b)]


class Page(HTMLParser):
    """The parts of a page that tests ask for."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag in {"h1", "h2"}:
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data
        if self._open and self._open[-1] in {"h1", "h2"}:
            self.headings[-1] += data

    @property
    def ids(self) -> list[str]:
        return [found for _, attrs in self.tags if (found := attrs.get("id"))]

    @property
    def references(self) -> set[str]:
        """Return the ids that something on the page points at."""
        found = set[str]()
        for _, attrs in self.tags:
            found |= {value[1:] for value in (attrs.get("href"),) if value}
            found |= set((attrs.get("aria-labelledby") or "").split())
            for value in attrs.values():
                for part in (value or "").split("url(#")[1:]:
                    found.add(part.split(")")[0])
        return found

    def row(self, name: str) -> str:
        """Return the row of a table that begins with a name."""
        for line in self.source.split("<tr>"):
            if f'<span class="name">{name}</span>' in line:
                return line.split("</tr>")[0]
        raise AssertionError(f"no row is called {name}")
