"""Run every example of README.md and docs/ in the order in which a reader meets them.

Fences marked `python` run in one namespace a page, the lines of `console` fences that begin with
`$ ` run with bash; both in one empty folder. Output that follows a command is compared, `...`
stands for anything; an `output` fence holds what the `python` fence before it prints. A fence with
`title="name"` is written to that file and not run. Further marks: `skip="reason"`, and `fails`
where a non-zero exit code or an exception is what is shown.
"""

from __future__ import annotations

import doctest
import io
import os
import shlex
import subprocess
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from attrs import evolve, frozen
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
RUN = {"python", "console"}
LOOKALIKES = {"py", "python3", "pycon", "bash", "sh", "shell", "shell-session"}
MARKS = {"skip", "fails", "title", "hl_lines", "linenums"}


class BadExample(Exception):
    """An example is not written so that it can be run, or does not do what the page says."""


@frozen
class Example:
    page: Path
    line: int
    language: str
    marks: dict[str, str]
    text: str
    output: str = ""

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def examples(page: Path) -> list[Example]:
    found: list[Example] = []
    for token in MarkdownIt().parse(page.read_text()):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "code_block" and "```" in token.content:
            raise BadExample(f"{page.name}:{line}: a fence inside indented text would not be run")
        if token.type == "fence" and token.info:
            language, *marks = shlex.split(token.info)
            named = dict(mark.partition("=")[::2] for mark in marks)
            example = _checked(Example(page, line, language, named, token.content))
            if language == "output":
                found[-1] = _with_output(found[-1:], example)
            else:
                found.append(example)
    return [one for one in found if one.language in RUN or "title" in one.marks]


def _checked(example: Example) -> Example:
    if example.language in LOOKALIKES and "title" not in example.marks:
        raise BadExample(f"{example}: write python or console, {example.language} is not run")
    if unknown := set(example.marks) - MARKS:
        raise BadExample(f"{example}: unknown marks {sorted(unknown)}")
    if example.marks.get("skip") == "":
        raise BadExample(f'{example}: skip needs a reason, as skip="needs a network"')
    return example


def _with_output(before: list[Example], output: Example) -> Example:
    if not before or before[0].language != "python" or before[0].output:
        raise BadExample(f"{output}: output follows the python fence that prints it")
    return evolve(before[0], output=output.text)


def run(example: Example, module: types.ModuleType) -> None:
    text = example.text
    if text.startswith("--8<--"):
        text = (ROOT / shlex.split(text)[1]).read_text()
    if "title" in example.marks:
        path = Path(example.marks["title"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    elif example.language == "console":
        for command, output in commands(text):
            run_command(example, command, output)
    else:
        run_python(example, text, module)


def run_python(example: Example, text: str, module: types.ModuleType) -> None:
    # The blank lines give tracebacks, and inspect.getsource, the page's own line numbers.
    code = compile("\n" * example.line + text, str(example.page), "exec", dont_inherit=True)
    printed = io.StringIO()
    with redirect_stdout(printed):
        if "fails" in example.marks:
            with pytest.raises(Exception) as caught:  # noqa: PT011 - the page says which
                exec(code, module.__dict__)
            printed.writelines(traceback.format_exception_only(caught.value))
        else:
            exec(code, module.__dict__)
    compare(f"{example}:\n{printed.getvalue()}", example.output, printed.getvalue())


def commands(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        command, output = found[-1] if found else ("", "")
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif command.endswith("\\"):
            found[-1] = (f"{command}\n{line.removeprefix('> ')}", output)
        elif found:
            found[-1] = (command, f"{output}{line}\n")
        else:
            raise BadExample(f"output without a command: {line!r}")
    return found


def run_command(example: Example, command: str, output: str) -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    shown = f"{example}: $ {command}\n{done.stdout}"
    if (done.returncode != 0) != ("fails" in example.marks):
        raise BadExample(f"{shown}exit code {done.returncode}")
    compare(shown, output, done.stdout)


def compare(shown: str, expected: str, actual: str) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if expected.strip() and not doctest.OutputChecker().check_output(expected, actual, flags):
        raise BadExample(f"{shown}but the page says:\n{expected}")


@pytest.fixture
def module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_home: Path
) -> Iterator[types.ModuleType]:
    """Make the namespace of a page, and the surroundings of a reader who follows it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name, value in {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    module = types.ModuleType("page")
    before = set(sys.modules)
    monkeypatch.setitem(sys.modules, "page", module)
    yield module
    # Another page may write a module of the same name; libraries must stay, torch loads only once.
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


PAGES = [page for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))) if page.exists()]
SKIPPED = [example for page in PAGES for example in examples(page) if "skip" in example.marks]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if examples(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_example_of_the_page_works(page: Path, module: types.ModuleType) -> None:
    module.__file__ = str(page)
    run_page(page, module)


@pytest.mark.parametrize("example", SKIPPED, ids=str)
def test_an_example_is_left_out_only_for_a_reason(example: Example) -> None:
    pytest.skip(f"{example}: {example.marks['skip']}")


def run_page(page: Path, module: types.ModuleType) -> None:
    for example in examples(page):
        if "skip" not in example.marks:
            run(example, module)


@pytest.fixture
def run_text(tmp_path: Path, module: types.ModuleType) -> Callable[[str], None]:
    def write_and_run(text: str) -> None:
        page = tmp_path / "page.md"
        page.write_text(text)
        run_page(page, module)

    return write_and_run


def test_python_and_commands_share_one_folder_in_the_order_of_the_page(
    run_text: Callable[[str], None],
) -> None:
    run_text(
        '```python\nfrom pathlib import Path\nPath("a").write_text("one two")\n```\n'
        "```console\n$ cat a \\\n>   | tr o 0\n0ne ...0\n$ echo three > b\n```\n"
        '```python\nassert Path("b").read_text() == "three\\n"\n```\n',
    )


@pytest.mark.parametrize("answer", [41, 42], ids=["one page", "another page"])
def test_a_titled_fence_becomes_a_file_that_later_ones_of_the_page_import(
    run_text: Callable[[str], None], answer: int
) -> None:
    run_text(
        f'```python title="titled.py"\nanswer = {answer}\n```\n'
        f"```python\nimport titled\nassert titled.answer == {answer}\n```\n",
    )


@pytest.mark.parametrize(
    "text",
    [
        "```console\n$ echo one\ntwo\n```",
        "```console\n$ false\n```",
        "```console fails\n$ true\n```",
        "```console\noutput\n```",
        "```python skip\n1 / 0\n```",
        "```python\nprint(1)\n```\n```output\n2\n```",
        "```python fails\n1 / 0\n```\n```output\nKeyError\n```",
        "```output\n1\n```",
        "```python oops\n1\n```",
        "```bash\n$ true\n```",
        "=== tab\n\n    ```python\n    1\n    ```",
    ],
    ids=[
        "other output",
        "a command that fails",
        "a command that should fail",
        "output without a command",
        "skip without a reason",
        "other output of python",
        "another exception",
        "output without python",
        "an unknown mark",
        "a language that is not run",
        "a fence in indented text",
    ],
)
def test_a_wrong_example_is_caught(run_text: Callable[[str], None], text: str) -> None:
    with pytest.raises(BadExample):
        run_text(text)


def test_an_output_fence_is_what_the_python_before_it_prints(
    run_text: Callable[[str], None],
) -> None:
    run_text("```python\nprint(1, 2)\n```\nA line of prose.\n```output\n1 ...\n```")


def test_an_expected_failure_passes(run_text: Callable[[str], None]) -> None:
    run_text(
        "```console fails\n$ false\n```\n"
        "```python fails\n1 / 0\n```\n```output\nZeroDivisionError: division by zero\n```"
    )
