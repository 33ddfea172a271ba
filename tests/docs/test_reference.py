"""The reference pages leave nothing public out."""

from __future__ import annotations

import inspect
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import eipack
from eipack import errors

DOCS = Path(__file__).parents[2] / "docs"
API = (DOCS / "reference/api.md").read_text()


def error_tables() -> str:
    spec = spec_from_file_location("pages", DOCS / "hooks/pages.py")
    assert spec
    assert spec.loader
    hooks = module_from_spec(spec)
    spec.loader.exec_module(hooks)
    return str(hooks.error_tables())


@pytest.mark.parametrize("name", [name for name in eipack.__all__ if name != "__version__"])
def test_every_public_name_is_in_the_reference(name: str) -> None:
    assert re.search(rf"^::: eipack\.{name}$|`(eipack\.)?{name}`", API, re.MULTILINE)


def test_the_page_of_errors_has_every_class_and_what_it_is_besides() -> None:
    text = error_tables()
    for name, error in vars(errors).items():
        if inspect.isclass(error) and issubclass(error, errors.EipackError):
            assert name == "EipackError" or f"eipack.errors.{name}" in text
            for base in error.__bases__:
                assert base is Exception or base.__name__ in text or base is errors.EipackError


def test_the_design_names_every_module_that_leans_on_private_parts_of_torch() -> None:
    source = Path(eipack.__file__).parent
    private = re.compile(r"\btorch\._(?!_)|\btorch\.\w+\._(?!_|pytree)")
    leaning = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if private.search(path.read_text())
    }
    design = (DOCS / "design.md").read_text()
    assert [name for name in sorted(leaning) if f"`{name}`" not in design] == []
