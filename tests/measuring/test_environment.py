"""What a report says of the machine."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from eipack.measuring import environment
from eipack.measuring.environment import memory_bytes


@pytest.mark.parametrize(
    ("text", "expected"), [("1000000\n", 1_000_000), ("max\n", None), ("9" * 30, None)]
)
def test_memory_is_the_machines_or_the_less_that_its_control_group_leaves(
    text: str, expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text(text)
    monkeypatch.setattr(environment, "_MEMORY_LIMITS", (tmp_path / "none", limit))
    assert memory_bytes() == (expected or psutil.virtual_memory().total)
