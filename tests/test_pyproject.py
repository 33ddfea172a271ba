"""What the project's files claim about versions is what is installed and tested."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECTS = sorted([ROOT / "pyproject.toml", *ROOT.glob("[pe]*/*/pyproject.toml")])
DEVELOPMENT = {"test", "docs", "lint"}


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    found = [Requirement(line) for line in lines if not line.startswith("#")]
    return {canonicalize_name(one.name): str(next(iter(one.specifier)).version) for one in found}


def requirements(pyproject: Path) -> list[Requirement]:
    """List what users install; frameworks without a bound have environments of their own."""
    project = tomllib.loads(pyproject.read_text())["project"]
    extras = project.get("optional-dependencies", {})
    wanted = [one for extra, some in extras.items() if extra not in DEVELOPMENT for one in some]
    found = [Requirement(one) for one in [*project["dependencies"], *wanted]]
    return [one for one in found if not one.name.startswith("eipack") and one.specifier]


@pytest.mark.parametrize("pyproject", PROJECTS, ids=lambda path: path.parent.name)
def test_every_lower_bound_is_what_test_lowest_installs(pyproject: Path) -> None:
    lowest = pins("constraints-lowest.txt")
    bounds = {one.name: str(one.specifier).removeprefix(">=") for one in requirements(pyproject)}
    assert bounds == {name: lowest[canonicalize_name(name)] for name in bounds}


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-lowest.txt"])
def test_constraints_pin_exact_versions_and_name_no_location(name: str) -> None:
    for line in (ROOT / name).read_text().splitlines()[1:]:
        requirement = Requirement(line)
        assert requirement.url is None
        assert [one.operator for one in requirement.specifier] in (["=="], ["==="])


def test_torch_is_pinned_to_the_build_that_torchvision_is_linked_against() -> None:
    assert "\ntorch===" in (ROOT / "constraints.txt").read_text()
