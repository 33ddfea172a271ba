"""The frameworks' environments are pinned, each by a file that the makefile knows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PLUGIN = Path(__file__).parents[1]
FILES = sorted((PLUGIN / "constraints").glob("*.txt"))
NAMES = [path.stem for path in FILES]


def pinned(path: Path) -> dict[str, Requirement]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return {one.name.lower().replace("_", "-"): one for one in map(Requirement, lines)}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_everything_of_a_framework_is_pinned_to_one_version(path: Path) -> None:
    found = pinned(path)
    assert path.stem in found
    assert all(str(one.specifier).startswith("==") for one in found.values())
    assert not {"torch", "eipack", "eipack-serving"} & set(found)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_the_pinned_version_is_one_that_the_extra_allows(path: Path) -> None:
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    extra = map(Requirement, project["optional-dependencies"][path.stem])
    (asked,) = (one for one in extra if one.name == path.stem)
    (version,) = pinned(path)[path.stem].specifier
    assert asked.specifier.contains(version.version)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_what_eipack_needs_goes_with_what_a_framework_pins(path: Path) -> None:
    pins = pinned(path)
    broken = []
    for file in (PLUGIN.parents[1], PLUGIN.parent / "eipack-eia", PLUGIN):
        project = tomllib.loads((file / "pyproject.toml").read_text())["project"]
        for asked in map(Requirement, project["dependencies"]):
            found = pins.get(asked.name.lower().replace("_", "-"))
            if found is not None:
                (version,) = found.specifier
                if not asked.specifier.contains(version.version):
                    broken.append(f"{project['name']}: {asked}, pinned {version.version}")
    assert not broken


def test_the_makefile_has_each_of_them() -> None:
    text = (PLUGIN / "environments.mk").read_text()
    (names,) = re.findall(r"^SERVING_NAMES := (.*)$", text, re.MULTILINE)
    assert names.split() == NAMES
    for name in NAMES:
        assert f"test-serving-{name}: ##" in text
