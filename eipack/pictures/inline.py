"""A figure as SVG within a page: text stays text, colours follow the page's light or dark."""

from __future__ import annotations

import re
from io import BytesIO
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from eipack.pictures import styles
from eipack.pictures.sheet import MARGIN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VARIABLES: Final = {
    getattr(styles, name): f"var(--{name.lower()})"
    for name in (
        *("INK", "MUTED", "GRID", "PAPER", "ALARM"),
        *("BLUE", "GREEN", "GREY", "ORANGE", "PURPLE", "SKY", "VERMILION"),
    )
}
_COLOUR: Final = re.compile("#[0-9a-f]{6}")
_CROP: Final = (MARGIN - 0.1) * 72


def svg(figure: Figure, name: str, title: str) -> str:
    """Return a figure as an `svg` element that a page can hold beside others.

    `name` makes its ids unlike those of the other figures; `title` is what it shows, in words.
    """
    with BytesIO() as buffer:
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
        root = ET.fromstring(buffer.getvalue())  # noqa: S314 - matplotlib wrote it just now
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in {"metadata", "style"}:
                parent.remove(child)
    for element in root.iter():
        _adopt(element, name)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    root.set("viewBox", f"{left + _CROP:g} {top:g} {width - 2 * _CROP:g} {height:g}")
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title"}
    heading = ET.Element("title", {"id": f"{name}-title"})
    heading.text = title
    heading.tail = "\n"
    root.insert(0, heading)
    return ET.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _adopt(element: ET.Element, name: str) -> None:
    """Drop namespaces, which a page does not have, and make ids and colours the page's."""
    element.tag = _local(element.tag)
    known = {_local(key): value for key, value in element.attrib.items()}
    element.attrib.clear()
    for key, value in known.items():
        if key == "id":
            element.set(key, f"{name}-{value}")
        elif key == "href":
            element.set(key, value.replace("#", f"#{name}-", 1))
        elif key == "fill" and _COLOUR.fullmatch(value):
            element.set("style", f"fill: {_variable(value)}")
        elif key in {"clip-path", "fill", "style"}:
            referred = value.replace("url(#", f"url(#{name}-")
            element.set(key, _COLOUR.sub(lambda found: _variable(found[0]), referred))
        else:
            element.set(key, value)


def _variable(colour: str) -> str:
    return _VARIABLES.get(colour, colour)
