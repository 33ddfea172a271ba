"""What eipack promises by its names, its docstrings and the cost of importing it."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator

import pytest

import eipack
from eipack import errors

PUBLIC = [
    "Advice",
    "Backend",
    "Changes",
    "Device",
    "Difference",
    "Dim",
    "EipackError",
    "InputSpec",
    "LoadOptions",
    "Package",
    "Program",
    "ProgramReader",
    "ProgramWriter",
    "Report",
    "Runner",
    "Session",
    "Signature",
    "Target",
    "TensorSpec",
    "__version__",
    "advise",
    "backends",
    "benchmark",
    "compare",
    "compile",
    "current_target",
    "devices",
    "diff",
    "export",
    "load",
    "open",
    "sign",
    "tune",
    "use",
    "verify",
]


def fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_public_names_are_frozen() -> None:
    assert eipack.__all__ == PUBLIC


def test_the_public_names_are_sorted() -> None:
    assert eipack.__all__ == sorted(eipack.__all__) == dir(eipack)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    value = getattr(eipack, name)
    assert name == "__version__" or inspect.getdoc(value)


def test_a_name_that_eipack_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        eipack.nonsense  # noqa: B018


def test_importing_eipack_imports_nothing_heavy() -> None:
    heavy = {"attrs", "cattrs", "click", "cryptography", "msgspec", "numpy", "onnx", "rich"}
    heavy |= {"stevedore", "torch"}
    loaded = fresh("import sys, eipack; print(*{m.partition('.')[0] for m in sys.modules})")
    assert not heavy & set(loaded.split())


def test_importing_eipack_takes_no_noticeable_time() -> None:
    timed = "import time; t = time.perf_counter(); import eipack; print(time.perf_counter() - t)"
    # The figure is in benchmarks/; this only catches an import of something big.
    assert min(float(fresh(timed)) for _ in range(3)) < 0.25


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert eipack.__version__ == version("eipack")


# Errors


def own_subclasses(error: type) -> list[type]:
    """List a class's subclasses that stand in errors.py; plugins may have others."""
    return [one for one in error.__subclasses__() if one.__module__ == errors.__name__]


def families() -> Iterator[tuple[type[errors.EipackError], str]]:
    """Give each class of errors.py with the line that the tree should have for it."""
    below = own_subclasses(errors.EipackError)
    yield errors.EipackError, "EipackError"
    for family in below:
        last = family is below[-1]
        yield family, f"{'└' if last else '├'}── {family.__name__}"
        members = own_subclasses(family)
        for member in members:
            bases = ", ".join(b.__name__ for b in member.__bases__ if b.__module__ == "builtins")
            corner = "└" if member is members[-1] else "├"
            yield member, f"{' ' if last else '│'}   {corner}── {member.__name__} {bases} "


def drawn() -> list[str]:
    return [
        re.sub(r"(?<=\w) +", " ", line) + " "
        for line in str(inspect.getdoc(errors)).split("\n\n")[1].splitlines()
    ]


def test_the_tree_at_the_top_of_errors_is_the_hierarchy_of_its_classes() -> None:
    lines = drawn()
    wanted = [line for _, line in families()]
    assert len(lines) == len(wanted)
    for line, beginning in zip(lines, wanted, strict=True):
        assert line.startswith(beginning)


def test_every_error_class_stands_in_the_tree() -> None:
    classes = {value for value in vars(errors).values() if type(value) is type}
    assert classes == {error for error, _ in families()}


@pytest.mark.parametrize("error", [error for error, _ in families()], ids=lambda e: e.__name__)
def test_every_error_class_is_one_sentence(error: type[errors.EipackError]) -> None:
    text = str(error.__doc__)
    assert text.endswith(".")
    assert "\n" not in text


# Docstrings


def documented() -> Iterator[tuple[str, Callable[..., object]]]:
    """Give the public functions, and the public methods of the public classes, by name."""
    for name in PUBLIC:
        value = getattr(eipack, name)
        if inspect.isfunction(value):
            yield name, value
        for key, member in vars(value).items() if inspect.isclass(value) else ():
            function = inspect.unwrap(getattr(member, "__func__", member))
            if inspect.isfunction(function) and (key == "__call__" or not key.startswith("_")):
                yield f"{name}.{key}", function


def raised(node: ast.AST) -> Iterator[str]:
    """Give eipack's errors that the body of a function raises by name."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Raise) and isinstance(inner.exc, ast.Call):
            name = ast.unparse(inner.exc.func)
            if hasattr(errors, name):
                yield name


def listed(function: Callable[..., object]) -> set[str]:
    """Return the names under Raises."""
    section = str(inspect.getdoc(function)).partition("Raises:\n")[2].partition("\n\n")[0]
    lines = re.findall(r"^    (\w+(?:, \w+)*): ", section, re.MULTILINE)
    return {name for line in lines for name in line.split(", ")}


def test_every_public_function_says_what_it_raises() -> None:
    silent = []
    for name, function in documented():
        source = textwrap.dedent(inspect.getsource(function))
        for error in raised(ast.parse(source)):
            families = {base.__name__ for base in getattr(errors, error).__mro__}
            if not families & listed(function):
                silent.append(f"{name}: {error}")
    assert not silent


def test_every_error_that_a_public_docstring_names_exists() -> None:
    named = {(name, error) for name, function in documented() for error in listed(function)}
    assert named
    assert not [one for one in named if not hasattr(errors, one[1]) and one[1] not in dir(builtins)]


def test_every_public_function_is_documented() -> None:
    assert not [name for name, function in documented() if not inspect.getdoc(function)]
