"""A child process and its parent: errors keep their class, and no process is left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eipack.children import Child, Lost, key_files
from eipack.errors import DeviceNotFound
from eipack.trust.keys import PublicKey, SigningKey

WORKER = """
import sys, time
from eipack.children import serve
from eipack.errors import DeviceNotFound, ParityFailed


class Worker:
    def echo(self, asked):
        print("said aside")
        return {"text": asked["text"]}

    def absent(self, asked):
        raise DeviceNotFound("there is none", target="cpu:7", devices={1, 2})

    def differs(self, asked):
        raise ParityFailed("they differ")

    def foreign(self, asked):
        raise KeyError("what\\nand a long story")

    def sleep(self, asked):
        time.sleep(600)

    def exit(self, asked):
        print("no more", file=sys.stderr, flush=True)
        import os
        os._exit(7)


serve(Worker())
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    (tmp_path / "a_worker.py").write_text(WORKER)
    monkeypatch.syspath_prepend(tmp_path)
    started = Child("a_worker", tmp_path)
    yield started
    started.end()


def test_a_request_names_a_method_and_gets_its_answer(child: Child) -> None:
    assert child.call("echo", 60, text="so") == {"text": "so"}
    assert child.call("echo", 60, text="") == {"text": ""}


def test_an_error_of_eipack_comes_back_with_its_class_and_what_json_can_carry(
    child: Child,
) -> None:
    with pytest.raises(Lost, match="there is none") as caught:
        child.call("absent", 60)
    error = caught.value.error
    assert isinstance(error, DeviceNotFound)
    assert error.data == {"target": "cpu:7"}
    assert (caught.value.verdict, caught.value.over) == ("failed", False)
    assert child.call("echo", 60, text="still there") == {"text": "still there"}


def test_outputs_that_differ_are_wrong_and_not_merely_failed(child: Child) -> None:
    with pytest.raises(Lost, match="they differ") as caught:
        child.call("differs", 60)
    assert caught.value.verdict == "wrong"


def test_an_error_of_others_comes_back_as_one_line(child: Child) -> None:
    with pytest.raises(Lost) as caught:
        child.call("foreign", 60)
    assert "\n" not in caught.value.reason
    assert caught.value.error is None


def test_an_end_tells_the_exit_code_and_what_was_said_last(child: Child) -> None:
    with pytest.raises(Lost, match=r"exited with 7 \(exit\): no more") as caught:
        child.call("exit", 60)
    assert caught.value.over


def test_what_takes_too_long_is_over_and_ends_at_once(child: Child) -> None:
    child.call("echo", 60, text="")
    with pytest.raises(Lost, match=r"no answer within 0.1 s \(sleep\)") as caught:
        child.call("sleep", 0.1)
    assert caught.value.over
    began = time.monotonic()
    child.end()
    assert time.monotonic() - began < 5
    with pytest.raises(ProcessLookupError):
        os.kill(child._process.pid, 0)


def test_keys_become_files_that_their_owner_alone_reads(tmp_path: Path) -> None:
    key = SigningKey.generate().public
    (path,) = key_files(key, tmp_path) or []
    assert PublicKey.read(path) == key
    assert Path(path).stat().st_mode & 0o777 == 0o600


def test_the_default_trust_is_the_childs_too(tmp_path: Path) -> None:
    assert key_files(None, tmp_path) is None
