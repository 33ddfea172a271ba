from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eipack import __version__
from eipack.cli.root import BUILT_IN, root

from .conftest import Eipack, assert_one_line

Script = Callable[..., subprocess.CompletedProcess[str]]


def test_help_lists_every_command(eipack: Eipack) -> None:
    result = eipack("--help")
    assert result.exit_code == 0
    assert all(f"\n  {name} " in result.stdout for name in BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_command_has_help_with_an_example(eipack: Eipack, name: str) -> None:
    result = eipack(name, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"  eipack {name} " in result.stdout or name in ("devices", "backends")


def test_every_short_help_fits_its_line(eipack: Eipack) -> None:
    assert "...\n" not in eipack("--help").stdout.partition("Packages:")[2]


def test_the_version_is_printed(eipack: Eipack) -> None:
    assert eipack("--version").stdout == f"eipack {__version__}\n"


@pytest.mark.parametrize("words", [["--help"], ["export", "--help"], ["inspect", "FILE"]])
def test_what_needs_no_torch_imports_none(package_file: Path, words: list[str]) -> None:
    typed = [str(package_file) if word == "FILE" else word for word in words]
    code = (
        f"import sys; sys.argv = {['eipack', *typed]!r}\n"
        "from eipack.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'numpy', 'stevedore', 'transformers'} & {*sys.modules}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["exprot"], "there is no command 'exprot'; did you mean export? see: eipack --help"),
        (["zzz"], "there is no command 'zzz'; see: eipack --help"),
        (["--nonsense"], "no such option"),
        (["export"], "missing argument 'MODEL'; see: eipack export --help"),
        (["inspect", "a", "b"], "unexpected extra argument"),
        (["run", "f", "--target", "cpu:1"], "there is one cpu"),
        (["run", "f", "--target", "GPU"], "cannot read target 'GPU'"),
        (["run", "f", "--output", "out.txt"], ".npz or .safetensors"),
        (["run", "f", "--input", "a b", "--input", "c d"], "stands alone"),
        (["run", "f", "--input", __file__], "only .npz and .safetensors"),
        (["bench", "f", "--calls", "0"], "0 is not in the range"),
        (["extract", "f", "-o", "x"], "missing option '--program'"),
        (["export", "resnet18"], "'resnet18' is no model source; write torchvision:resnet18"),
        (["export", "torchvision:"], "names no model"),
        (["export", "a.b c:d"], "is no model source"),
        (["export", "a:b", "--weights", "none"], "makes its own"),
        (["export", "a.pt", "--weights", "none"], "holds its weights"),
        (["export", "a:b", "--dynamic", "x=batch"], "write for example x:0=batch:1:64"),
        (["export", "a:b", "--dynamic", "x:0=batch:9:3"], "sizes run from"),
        (["export", "a:b", "--spec", "x"], "write NAME=LOW:HIGH"),
        (["export", "a:b", "--spec", "x=1:b"], "with numbers"),
        (["export", "a:b", "--spec", "x=1:2", "--spec", "x=1:2"], "names x twice"),
        (["export", "a:b", "--asset", "labels"], "write ROLE=PATH"),
        (["export", "a:b", "--config", "n_layer"], "write KEY=VALUE"),
        (["trust", "lst"], "no such command 'lst'"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(eipack: Eipack, words: list[str], told: str) -> None:
    assert_one_line(eipack(*words), 2, told)


def test_without_a_command_the_help_is_wrong_use(eipack: Eipack) -> None:
    result = eipack()
    assert result.exit_code == 2
    assert "Usage: eipack" in result.stderr


@pytest.mark.parametrize("command", ["inspect", "run", "bench", "verify", "sign"])
def test_a_missing_file_is_one_line_and_exit_code_1(eipack: Eipack, command: str) -> None:
    assert_one_line(eipack(command, "nowhere.eipack"), 1, "nowhere.eipack", "no such file")


@pytest.mark.parametrize("command", ["inspect", "run", "verify"])
def test_a_file_that_is_no_package_is_one_line(eipack: Eipack, command: str) -> None:
    assert_one_line(eipack(command, __file__), 1, "test_root.py")


@pytest.mark.parametrize("words", [["--debug", "verify", "x"], ["verify", "x", "--debug"]])
def test_a_traceback_is_shown_only_with_debug(eipack: Eipack, words: list[str]) -> None:
    assert "Traceback" not in eipack("verify", "x").stderr
    result = eipack(*words)
    assert result.exit_code == 1
    assert "Traceback" in result.stderr


def test_debug_may_stand_behind_a_nested_command(eipack: Eipack) -> None:
    assert "Traceback" in eipack("trust", "remove", "nobody", "--debug").stderr


def test_a_bug_is_one_line_too(eipack: Eipack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eipack.devices", lambda: 1 / 0)
    assert_one_line(eipack("devices"), 1, "unexpected ZeroDivisionError", "--debug")


def test_a_caller_in_python_gets_the_exit_code() -> None:
    assert root.main(["verify", "nowhere.eipack"], standalone_mode=False) == 1
    assert root.main(["--version"], standalone_mode=False) == 0


def test_the_script_says_the_same_as_the_runner(script: Script) -> None:
    done = script("run", "nowhere.eipack")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("eipack: error: ")
    assert done.stderr.count("\n") == 1


def test_an_interrupt_is_one_line_and_leaves_nothing(workplace: Path) -> None:
    process = subprocess.Popen(
        [Path(sys.executable).with_name("eipack"), "export", "cli_models:slow", "--input", "x=1x4"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not Path("started").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "eipack: interrupted\n")
    left = {path.name for path in workplace.iterdir()} - {"__pycache__"}
    assert left == {"cli_models.py", "started"}


def test_a_closed_pipe_is_quiet(package_file: Path) -> None:
    process = subprocess.Popen(
        [Path(sys.executable).with_name("eipack"), "inspect", package_file],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)
    assert said == b""


@pytest.mark.parametrize(("variable", "coloured"), [("NO_COLOR", False), ("UNSET", True)])
def test_colours_are_for_terminals_and_can_be_turned_off(
    package_file: Path, variable: str, coloured: bool
) -> None:
    environment = {**os.environ, "TERM": "xterm-256color", variable: "1"}
    if coloured:
        environment.pop("NO_COLOR", None)
    assert (b"\x1b[36m" in _on_a_terminal(["inspect", str(package_file)], environment)) is coloured


def _on_a_terminal(words: list[str], environment: dict[str, str]) -> bytes:
    leader, follower = os.openpty()
    command = [Path(sys.executable).with_name("eipack"), *words]
    with subprocess.Popen(command, stdout=follower, env=environment):
        os.close(follower)
        shown = b""
        with contextlib.suppress(OSError):  # Linux says so at the end
            while chunk := os.read(leader, 4096):
                shown += chunk
    os.close(leader)
    return shown
