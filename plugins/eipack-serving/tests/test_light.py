"""What costs nothing: importing the plugin, and asking its commands for help."""

from __future__ import annotations

import subprocess
import sys

import eipack_serving
import pytest

HEAVY = "torch, starlette, fastapi, kserve, ray, numpy"


@pytest.mark.parametrize(
    "words",
    [
        "import eipack_serving",
        "from eipack_serving import BadRequest, Unavailable, status_of",
        "from eipack.cli.root import root; root(['serve', '--help'])",
        "from eipack.cli.root import root; root(['serving', 'triton', '--help'])",
    ],
)
def test_nothing_heavy_is_imported(words: str) -> None:
    code = (
        "import atexit, sys\n"
        f"heavy = set({HEAVY!r}.split(', '))\n"
        "atexit.register(lambda: print('heavy:', sorted(heavy & set(sys.modules))))\n"
        f"{words}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_public_names_are_there() -> None:
    assert eipack_serving.__all__ == ["BadRequest", "PackageService", "Unavailable", "status_of"]
    for name in eipack_serving.__all__:
        assert getattr(eipack_serving, name).__name__ == name
    assert dir(eipack_serving) == eipack_serving.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = eipack_serving.nothing
