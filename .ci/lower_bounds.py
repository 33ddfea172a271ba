"""Print the lowest version of each library that eipack claims to support, as exact pins."""

from __future__ import annotations

import tomllib
from pathlib import Path

DEVELOPMENT = {"test", "docs", "lint"}


def lower_bounds(pyproject: Path) -> list[str]:
    """List `name==bound` for every requirement of users, in the file's order."""
    project = tomllib.loads(pyproject.read_text())["project"]
    requirements = list(project["dependencies"])
    for extra, wanted in project["optional-dependencies"].items():
        if extra not in DEVELOPMENT:
            requirements += wanted
    return [one.replace(">=", "==") for one in requirements if ">=" in one]


if __name__ == "__main__":
    print("\n".join(lower_bounds(Path("pyproject.toml"))).replace("torch==", "torch==="))
