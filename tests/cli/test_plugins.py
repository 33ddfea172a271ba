from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest

from .conftest import Eipack, assert_one_line

Install = Callable[[str, str, str], None]

GROUP = """
import click

@click.group()
def hello():
    "Say hello."

@hello.command()
def world():
    "Say hello to the world."
    click.echo("hello, world")
"""


@pytest.fixture(autouse=True)
def _forget_modules() -> object:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("cli_plugin"):
            del sys.modules[name]


def test_a_plugin_brings_a_command_group(eipack: Eipack, plugin: Install) -> None:
    plugin("eipack-hello", "hello = cli_plugin_hello:hello", GROUP)
    assert eipack("hello", "world").stdout == "hello, world\n"


def test_listing_a_plugin_does_not_import_it(eipack: Eipack, plugin: Install) -> None:
    plugin("eipack-hello", "hello = cli_plugin_hello:hello", GROUP)
    assert re.search(r"hello +from eipack-hello", eipack("--help").stdout)
    assert "cli_plugin_hello" not in sys.modules


def test_a_plugin_that_cannot_be_imported_is_one_line(eipack: Eipack, plugin: Install) -> None:
    plugin("eipack-bad", "bad = cli_plugin_bad:group", "import no_such_library")
    assert_one_line(
        eipack("bad", "x"), 1, "'bad' of eipack-bad", "no_such_library", "pip uninstall"
    )


def test_a_broken_plugin_harms_no_other_command(eipack: Eipack, plugin: Install) -> None:
    plugin("eipack-bad", "bad = cli_plugin_bad:group", "raise RuntimeError('no')")
    assert eipack("--help").exit_code == 0
    assert eipack("devices").exit_code == 0


def test_a_plugin_must_name_a_click_command(eipack: Eipack, plugin: Install) -> None:
    plugin("eipack-odd", "odd = cli_plugin_odd:group", "group = 3")
    assert_one_line(eipack("odd"), 1, "no click command but a int", "eipack-odd")


def test_two_plugins_that_claim_one_name_are_both_named(eipack: Eipack, plugin: Install) -> None:
    plugin("eipack-one", "hello = cli_plugin_one:hello", GROUP)
    plugin("eipack-two", "hello = cli_plugin_two:hello", GROUP)
    assert_one_line(eipack("hello"), 1, "eipack-one and eipack-two")


def test_a_plugin_cannot_replace_a_built_in_command(eipack: Eipack, plugin: Install) -> None:
    plugin("eipack-devices", "devices = cli_plugin_devices:hello", GROUP)
    assert "eipack-devices" not in eipack("--help").stdout
    assert eipack("devices", "--json").exit_code == 0
    assert "cli_plugin_devices" not in sys.modules


def test_debug_works_behind_a_plugins_command(eipack: Eipack, plugin: Install) -> None:
    broken = GROUP.replace('click.echo("hello, world")', "1 / 0")
    plugin("eipack-hello", "hello = cli_plugin_hello:hello", broken)
    assert_one_line(eipack("hello", "world"), 1, "unexpected ZeroDivisionError")
    assert "Traceback" in eipack("hello", "world", "--debug").stderr
