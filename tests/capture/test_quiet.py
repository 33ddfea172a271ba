"""Torch talks while it captures; eipack does not let it, and lets everybody else."""

from __future__ import annotations

import logging
import sys
import threading
import warnings

import pytest

from eipack.capture.quiet import quiet


def test_log_lines_prints_and_warnings_are_swallowed(capfd, caplog):
    logger = logging.getLogger("torch.some.module")
    with quiet():
        logger.warning("about symbolic shapes")
        print("a graph", file=sys.stderr)  # noqa: T201
        warnings.warn("deprecated", stacklevel=1)
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == []


def test_afterwards_everything_is_heard_again(capfd, caplog):
    before = sys.stderr
    with quiet(), quiet():
        pass
    assert sys.stderr is before
    print("heard", file=sys.stderr)  # noqa: T201
    logging.getLogger("torch.some.module").warning("also heard")
    assert capfd.readouterr().err.startswith("heard\n")
    assert caplog.messages == ["also heard"]
    with pytest.warns(UserWarning, match="deprecated"):
        warnings.warn("deprecated", stacklevel=1)


def test_an_error_restores_too(capfd):
    with pytest.raises(ValueError, match="inside"), quiet():
        raise ValueError("inside")
    print("heard", file=sys.stderr)  # noqa: T201
    assert capfd.readouterr().err == "heard\n"


def test_other_threads_and_other_loggers_are_heard(capfd, caplog):
    def speak() -> None:
        print("from another thread", file=sys.stderr)  # noqa: T201

    with quiet():
        thread = threading.Thread(target=speak)
        thread.start()
        thread.join()
        logging.getLogger("mine").warning("my own")
    assert capfd.readouterr().err == "from another thread\n"
    assert caplog.messages == ["my own"]


def test_threads_that_overlap_end_loud():
    before, inside = sys.stderr, threading.Event()

    def stay() -> None:
        with quiet():
            inside.set()
            leave.wait(10)

    leave = threading.Event()
    thread = threading.Thread(target=stay)
    with quiet():
        thread.start()
        inside.wait(10)
    leave.set()
    thread.join()
    assert sys.stderr is before
