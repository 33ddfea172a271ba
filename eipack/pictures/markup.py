"""What pages are made of, and how a template becomes a file: every text in it is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from eipack.cli.printing import printable
from eipack.errors import PictureRefused
from eipack.package.beside import write_beside
from eipack.pictures.wording import UNKNOWN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SUFFIXES: Final = (".html", ".htm")


@frozen
class Cell:
    """One cell of a table: a text, a smaller `note` under it, and `flags` with their tones.

    `span` is how many columns it takes; `left` is for words rather than figures.
    """

    text: str = ""
    note: str = ""
    flags: Sequence[tuple[str, str]] = ()
    left: bool = False
    span: int = 1


@frozen
class Table:
    """Rows under headings; the first cell of a row names it."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def table_of(caption: str, names: Sequence[Cell], columns: Mapping[str, Sequence[Cell]]) -> Table:
    """Set columns beside the names of the rows; those that nobody knows are left out."""
    known = {head: cells for head, cells in columns.items() if any(map(_is_known, cells))}
    rows = [[name, *(cells[at] for cells in known.values())] for at, name in enumerate(names)]
    return Table(caption, ("", *known), rows)


def _is_known(cell: Cell) -> bool:
    return cell.text != UNKNOWN or bool(cell.note)


@frozen
class Chart:
    """A picture, its heading, and how it is to be read."""

    heading: str
    svg: str
    text: str


def chart(figure: Figure, name: str, heading: str, text: str) -> Chart:
    """Return a figure as a part of a page; only within `styles.drawing`."""
    from markupsafe import Markup

    from eipack.pictures.inline import svg

    drawn = svg(figure, name, f"{heading}. {text}")
    return Chart(heading, Markup(drawn), text)  # noqa: S704 - its texts were escaped as XML


def check_name(path: Path) -> None:
    """Check that a page's name says what it is, without loading anything.

    Raises:
        PictureRefused: It ends in neither .html nor .htm.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise PictureRefused(f"cannot write {path}: a page's name ends in .html", path=str(path))


def save(path: Path, template: str, **values: Any) -> Path:
    """Fill a template and write it, whole or not at all.

    Raises:
        PackageIOError: The file cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    engine = Environment(
        autoescape=True,
        finalize=_shown,
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    data = engine.get_template(template).render(**values).encode()
    return write_beside(path, lambda place: place.write_bytes(data))


def _shown(value: Any) -> Any:
    """Escape what could mislead the eye, in texts that are not markup already."""
    return printable(value) if type(value) is str else value
