"""The process of one candidate: what it answers, and how it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eipack.children import Child, Lost


@pytest.fixture
def child(tmp_path: Path, engines: None) -> Iterator[Child]:
    started = Child("eipack.tuning.child", tmp_path)
    yield started
    started.end()


def ask_to_open(child: Child, package: Path, target: str = "cpu") -> None:
    asked = {"program": None, "precision": "float32", "threads": None, "options": {}}
    child.ask("open", package=str(package), target=target, trust=None, **asked)


def test_what_an_engine_prints_disturbs_nothing_and_a_crash_names_its_signal(
    child: Child, fixed_package: Path
) -> None:
    ask_to_open(child, fixed_package, "cpu+crashing")
    with pytest.raises(Lost, match=r"ended by SIGSEGV \(open\): about to fall over"):
        child.answer(60)


def test_an_answer_that_takes_long_is_waited_for_again(child: Child, fixed_package: Path) -> None:
    ask_to_open(child, fixed_package)
    assert child.answer(0.0) is None
    answer = child.answer(60)
    assert answer is not None
    assert answer["threads"] >= 1


def test_a_process_that_hangs_is_ended_with_all_that_it_started(
    child: Child, fixed_package: Path
) -> None:
    ask_to_open(child, fixed_package, "cpu+hanging")
    assert child.answer(0.5) is None
    began = time.monotonic()
    child.end()
    child.end()
    assert time.monotonic() - began < 3
    with pytest.raises(ProcessLookupError):
        os.kill(child._process.pid, 0)


def test_a_request_before_anything_is_open_is_an_answer_too(child: Child, tmp_path: Path) -> None:
    with pytest.raises(Lost, match="nothing is open"):
        child.call("check", 60, folder=str(tmp_path), count=1, precision="float32")


def test_a_process_ends_by_itself_when_nobody_is_there_to_ask_it(
    child: Child, fixed_package: Path
) -> None:
    ask_to_open(child, fixed_package, "cpu+hanging")
    assert child.answer(0.5) is None
    assert child._process.stdin is not None
    child._process.stdin.close()
    assert child._process.wait(60) == 0
