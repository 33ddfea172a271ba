"""What is known of where a session runs."""

from __future__ import annotations

import pytest

from eipack.measuring.origin import size_of


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("eia2.medium on a processor at http://127.0.0.1:8470", "eia2.medium"),
        ("custom at gpu1:8470", "custom"),
        ("unknown at gpu1:8470", None),
        ("x86_64, 2 cores", None),
        ("", None),
    ],
)
def test_the_size_of_an_accelerator_is_how_its_name_begins(name: str, size: str | None) -> None:
    assert size_of(name) == size
