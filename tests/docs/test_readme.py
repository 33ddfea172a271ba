"""What a stranger sees first, and whether it leads anywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
FIRST_SCREEN = "\n".join(README.splitlines()[:40])


@pytest.mark.parametrize("wanted", ["make demo", "make test", "```python", "$ eipack export"])
def test_the_first_screen_has_what_a_stranger_types(wanted: str) -> None:
    assert wanted in FIRST_SCREEN


@pytest.mark.parametrize("target", re.findall(r"\$ make (\S+)", README))
def test_make_knows_every_target_that_the_readme_names(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)[^):]*\)", README))))
def test_every_link_of_the_readme_leads_to_a_file(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_supported_python_is_the_one_the_distribution_asks_for() -> None:
    lowest = re.search(r'requires-python = ">=(\S+)"', (ROOT / "pyproject.toml").read_text())
    assert lowest
    assert f"| Python | {lowest[1]} and newer" in README


def test_the_supported_torch_is_the_one_the_distribution_asks_for() -> None:
    lowest = re.search(r'"torch>=(\d+\.\d+)', (ROOT / "pyproject.toml").read_text())
    assert lowest
    assert f"| torch | {lowest[1]} and newer" in README


def test_the_pages_of_the_site_say_what_the_readme_says() -> None:
    assert README.split("\n\n")[1] in (ROOT / "docs/index.md").read_text()


def test_the_figures_are_those_of_the_last_benchmark() -> None:
    block = re.search(r"<!-- figures: .*?-->\n(.*?)<!-- end of figures -->", README, re.DOTALL)
    assert block
    assert block[1].strip() == (ROOT / "benchmarks/results/README.md").read_text().strip()
