from __future__ import annotations

from pathlib import Path

from eipack.cli.reference import reference
from eipack.cli.root import BUILT_IN

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def test_the_reference_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text() == reference(), (
        "run: python -m eipack.cli.reference > docs/reference/cli.md"
    )


def test_the_reference_page_has_every_command() -> None:
    text = PAGE.read_text()
    assert all(f"## `eipack {name}`\n" in text for name in BUILT_IN)
    assert "### `eipack trust add`" in text
