"""Compiled forms: made once, verified each time, and never in the way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eipack.cache import cache_folder, cached

Make = Callable[[Path], None]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EIPACK_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "compiled"


def writing(text: str, made: list[str] | None = None) -> Make:
    def make(place: Path) -> None:
        (place / "model.bin").write_text(text)
        if made is not None:
            made.append(text)

    return make


def refuse(_: Path) -> None:
    raise AssertionError("it is there already")


def test_what_is_there_is_not_made_again() -> None:
    first, kept = cached({"engine": "a"}, writing("one"))
    assert kept
    again, _ = cached({"engine": "a"}, refuse)
    assert again == first
    assert (again / "model.bin").read_text() == "one"


@pytest.mark.parametrize("other", [{"engine": "b"}, {"engine": "a", "version": "2"}, {}])
def test_another_key_is_another_entry(other: dict[str, str]) -> None:
    first, _ = cached({"engine": "a"}, writing("one"))
    second, _ = cached(other, writing("two"))
    assert first != second
    assert (first / "model.bin").read_text() == "one"


def test_the_order_of_a_key_does_not_matter() -> None:
    first, _ = cached({"a": 1, "b": [2, 3]}, writing("one"))
    assert cached({"b": [2, 3], "a": 1}, refuse)[0] == first


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: (place / "model.bin").write_text("eno"),
        lambda place: (place / "model.bin").unlink(),
        lambda place: (place / "more.bin").write_text("x"),
        lambda place: (place / "entry.json").write_text("{"),
        lambda place: (place / "entry.json").unlink(),
    ],
    ids=["changed", "missing", "added", "list damaged", "list missing"],
)
def test_a_damaged_entry_is_made_again(damage: Callable[[Path], None]) -> None:
    place, _ = cached({"engine": "a"}, writing("one"))
    damage(place)
    again, kept = cached({"engine": "a"}, writing("one"))
    assert kept
    assert {path.name for path in again.iterdir()} == {"model.bin", "entry.json"}
    assert (again / "model.bin").read_text() == "one"


def test_an_entry_under_the_name_of_another_key_is_not_believed() -> None:
    place, _ = cached({"engine": "a"}, writing("one"))
    other, _ = cached({"engine": "b"}, writing("two"))
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    other.rename(place)
    again, _ = cached({"engine": "a"}, writing("one"))
    assert (again / "model.bin").read_text() == "one"


def test_nothing_is_left_of_one_that_could_not_be_made(folder: Path) -> None:
    def fail(place: Path) -> None:
        (place / "half").write_text("x")
        raise ValueError("no such operator")

    with pytest.raises(ValueError, match="no such operator"):
        cached({"engine": "a"}, fail)
    assert not list(folder.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written_to_costs_only_the_keeping(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o500)
    place, kept = cached({"engine": "a"}, writing("one"))
    assert not kept
    assert (place / "model.bin").read_text() == "one"


def test_a_full_disk_costs_only_the_keeping(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def full(self: Path, *_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    place, kept = cached({"engine": "a"}, writing("one"))
    assert not kept
    assert (place / "model.bin").read_text() == "one"
    assert not list(folder.iterdir())


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_folder_that_others_may_enter_is_not_used(folder: Path, mode: int) -> None:
    folder.mkdir(parents=True)
    folder.chmod(mode)
    place, kept = cached({"engine": "a"}, writing("one"))
    assert not kept
    assert folder not in place.parents


def test_it_is_this_users_alone(folder: Path) -> None:
    place, _ = cached({"engine": "a"}, writing("one"))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert place.stat().st_mode & 0o777 == 0o700


def test_what_was_not_used_for_longest_leaves_first(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("EIPACK_CACHE_BYTES", "3000")
    places = []
    for number in range(3):
        places.append(cached({"number": number}, writing("x" * 800))[0])
        past = time.time() - 100 + number
        os.utime(places[-1], (past, past))
    cached({"number": 0}, refuse)
    newest, _ = cached({"number": 3}, writing("x" * 800))
    assert set(folder.iterdir()) == {places[0], places[2], newest}


def test_processes_that_make_the_same_at_once_agree(folder: Path) -> None:
    script = (
        "from eipack.cache import cached; import time\n"
        "def make(place):\n"
        "    (place / 'model.bin').write_text('one'); time.sleep(0.3)\n"
        "place, kept = cached({'engine': 'a'}, make)\n"
        "assert (place / 'model.bin').read_text() == 'one' and kept\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    assert [process.wait(30) for process in processes] == [0] * 4
    assert len(list(folder.iterdir())) == 1


def test_it_lies_where_the_environment_says(folder: Path) -> None:
    assert cache_folder() == folder
