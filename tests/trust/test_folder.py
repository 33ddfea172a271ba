"""The settings folder: where it is and how its files are read and replaced."""

import os
from pathlib import Path

import pytest

from eipack.errors import KeyUnavailable
from eipack.trust.folder import (
    OURS_TO_WRITE,
    PRIVATE,
    changing,
    config_folder,
    read_guarded,
    write_whole,
)


def test_the_folder_follows_the_platform(monkeypatch, tmp_path):
    monkeypatch.delenv("EIPACK_CONFIG_DIR", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config_folder() == tmp_path / "eipack"


def test_an_environment_variable_overrides_the_folder(config):
    assert config_folder() == config


def test_a_machine_without_a_home_has_no_folder(monkeypatch):
    for name in ("EIPACK_CONFIG_DIR", "XDG_CONFIG_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert config_folder() is None


def test_a_missing_file_reads_as_none(tmp_path):
    assert read_guarded(tmp_path / "none", PRIVATE, "…") is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610])
def test_a_private_file_that_others_could_use_is_refused(tmp_path, mode):
    file = tmp_path / "key.pem"
    file.write_bytes(b"x")
    file.chmod(mode)
    with pytest.raises(KeyUnavailable, match="chmod 600"):
        read_guarded(file, PRIVATE, "…")


def test_a_file_of_another_user_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "key.pem"
    file.touch(0o600)
    if os.geteuid() == 0:
        os.chown(file, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(KeyUnavailable, match="another user"):
        read_guarded(file, PRIVATE, "…")


def test_a_pipe_in_place_of_a_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "key.pem", 0o600)
    with pytest.raises(KeyUnavailable, match="not a file"):
        read_guarded(tmp_path / "key.pem", PRIVATE, "…")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(KeyUnavailable, match="directory"):
        read_guarded(tmp_path, PRIVATE, "…")


def test_an_enormous_file_is_refused(tmp_path):
    file = tmp_path / "key.pem"
    file.touch(0o600)
    os.truncate(file, 1 << 40)
    with pytest.raises(KeyUnavailable, match="too large"):
        read_guarded(file, PRIVATE, "…")


def test_a_path_with_a_null_byte_is_refused():
    with pytest.raises(KeyUnavailable, match="null"):
        read_guarded(Path("a\0b"), PRIVATE, "…")


def test_a_folder_that_others_may_write_is_refused(tmp_path):
    tmp_path.chmod(0o770)
    with pytest.raises(KeyUnavailable, match="chmod 700"), changing(tmp_path, "…"):
        pass


def test_a_failed_write_leaves_the_old_file_alone_in_its_folder(tmp_path, monkeypatch):
    file = tmp_path / "keys"
    write_whole(file, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(KeyUnavailable, match="No space left"), changing(tmp_path, "…"):
        write_whole(file, b"new")
    monkeypatch.undo()
    assert file.read_bytes() == b"old"
    assert {entry.name for entry in tmp_path.iterdir()} == {"keys", ".lock"}


def test_a_lock_that_is_never_freed_ends_in_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("eipack.trust.folder._LOCK_TIMEOUT_S", 0.05)
    with (
        changing(tmp_path, "…"),
        pytest.raises(KeyUnavailable, match="another process"),
        changing(tmp_path, "…"),
    ):
        pass


def test_a_store_readable_by_all_is_accepted(tmp_path):
    file = tmp_path / "keys"
    write_whole(file, b"{}")
    file.chmod(0o644)
    assert read_guarded(file, OURS_TO_WRITE, "…") == b"{}"
