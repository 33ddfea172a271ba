"""How every picture looks, and how one becomes a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from eipack.errors import PictureRefused
from eipack.package.beside import write_beside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK: Final = "#1f2328"
MUTED: Final = "#59636e"
GRID: Final = "#d8dee4"
PAPER: Final = "#ffffff"
ALARM: Final = "#b3261e"
# Those of Okabe and Ito, which the colour-blind tell apart; grey and green and blue stand for
# kinds of hardware everywhere.
BLUE: Final = "#0072b2"
GREEN: Final = "#009e73"
GREY: Final = "#4d4d4d"
ORANGE: Final = "#e69f00"
PURPLE: Final = "#cc79a7"
SKY: Final = "#56b4e9"
VERMILION: Final = "#d55e00"

KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "accelerator": (GREY, "attached accelerator"),
    "gpu": (GREEN, "GPU"),
    "cpu": (BLUE, "CPU"),
    "other": (PURPLE, "other device"),
}
"""The colour of each kind of hardware, and its name."""

_SERIES: Final = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, GREY, SKY)
_DASHES: Final = ("-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1.2, 1.2)))
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "<", ">")

_FORMATS: Final = {".png": "png", ".svg": "svg"}
_SETTINGS: Final[dict[str, Any]] = {
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.linewidth": 0.6,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 150,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica"],
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.7,
    "legend.borderaxespad": 0,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handletextpad": 0.5,
    "path.simplify": False,
    "savefig.dpi": 150,
    "svg.fonttype": "none",
    "svg.hashsalt": "eipack",
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "xtick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.color": MUTED,
    "ytick.labelsize": 8.5,
}
_one_at_a_time = RLock()


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in this style, whatever the caller's own settings of matplotlib are.

    They are as before afterwards. matplotlib keeps them for the whole process, so another
    thread that draws meanwhile by its own means sees these.
    """
    from matplotlib import style

    with _one_at_a_time, style.context(["default", _SETTINGS]):
        yield


def format_of(path: Path) -> str:
    """Return the format that a picture's name asks for, without loading anything.

    Raises:
        PictureRefused: It ends in neither .png nor .svg.
    """
    found = _FORMATS.get(path.suffix.lower())
    if found is None:
        raise PictureRefused(
            f"cannot draw {path}: a picture's name ends in .png or .svg", path=str(path)
        )
    return found


def save(figure: Figure, path: Path) -> Path:
    """Write a picture, whole or not at all; equal figures give equal bytes.

    Raises:
        PictureRefused: Its name ends in neither .png nor .svg.
        PackageIOError: The file cannot be written.
    """
    kind = format_of(path)
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}

    def write(place: Path) -> None:
        figure.savefig(place, format=kind, metadata=metadata)

    return write_beside(path, write)


def series(number: int) -> dict[str, Any]:
    """Return how the line of a series looks; colour, dashes and marker all tell it from others."""
    return {
        "color": _SERIES[number % len(_SERIES)],
        "linestyle": _DASHES[number % len(_DASHES)],
        "marker": _MARKERS[number % len(_MARKERS)],
    }
