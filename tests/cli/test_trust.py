"""`trust`, `sign` and `verify`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from eipack.trust import SigningKey

from .conftest import Eipack, assert_one_line


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    path = tmp_path / "stranger.pem"
    path.write_text(SigningKey.generate().public.pem)
    return path


def test_the_own_key_is_printed_so_that_it_can_be_put_in_a_file(
    eipack: Eipack, fresh_home: Path
) -> None:
    result = eipack("trust", "show")
    assert result.stdout.startswith("-----BEGIN PUBLIC KEY-----\n")
    assert result.stdout.endswith("-----END PUBLIC KEY-----\n")
    assert result.stderr.startswith("key id: ec-p256:")


def test_the_own_key_is_the_same_each_time(eipack: Eipack, fresh_home: Path) -> None:
    first, second = (json.loads(eipack("trust", "show", "--json").stdout) for _ in range(2))
    assert first == second


def test_a_key_is_added_listed_and_removed(
    eipack: Eipack, fresh_home: Path, stranger: Path
) -> None:
    assert "no key is trusted here yet" in eipack("trust", "list").stdout
    assert eipack("trust", "add", stranger).stdout.startswith("stranger (ec-p256:")
    assert "stranger" in eipack("trust", "list").stdout
    assert [one["label"] for one in json.loads(eipack("trust", "list", "--json").stdout)] == [
        "stranger"
    ]
    assert "trusted no longer" in eipack("trust", "remove", "stra").stdout
    assert json.loads(eipack("trust", "list", "--json").stdout) == []


def test_a_label_may_be_chosen(eipack: Eipack, fresh_home: Path, stranger: Path) -> None:
    added = json.loads(eipack("trust", "add", stranger, "--label", "Ada", "--json").stdout)
    assert (added["label"], added["source"]) == ("Ada", "store")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["add", "nowhere.pem"], 1, "nowhere.pem does not exist"),
        (["add", __file__], 1, "public key"),
        (["remove", "nobody"], 1, "'nobody'"),
    ],
)
def test_what_fails_is_one_line(
    eipack: Eipack, fresh_home: Path, words: list[str], code: int, told: str
) -> None:
    assert_one_line(eipack("trust", *words), code, told)


def test_a_label_of_two_lines_is_wrong_use(
    eipack: Eipack, fresh_home: Path, stranger: Path
) -> None:
    assert_one_line(eipack("trust", "add", stranger, "--label", "a\nb"), 2, "one printable line")


def test_a_package_of_ones_own_is_verified(eipack: Eipack, package_file: Path) -> None:
    assert "whole, and signed by own key" in eipack("verify", package_file).stdout
    found = json.loads(eipack("verify", package_file, "--json").stdout)
    assert found["key_id"].startswith("ec-p256:")


def test_a_package_is_trusted_once_its_makers_key_is_added(
    eipack: Eipack, package_file: Path, tmp_path: Path, fresh_home: Path, shared_home: Path
) -> None:
    assert_one_line(eipack("verify", package_file), 1, "not trusted here")
    from eipack.trust import SigningKey

    maker = SigningKey.from_pem((shared_home / "config" / "signing-key.pem").read_bytes())
    (tmp_path / "maker.pem").write_text(maker.public.pem)
    assert eipack("trust", "add", tmp_path / "maker.pem").exit_code == 0
    assert "signed by maker" in eipack("verify", package_file).stdout


def test_only_the_keys_that_are_named_count(
    eipack: Eipack, package_file: Path, stranger: Path
) -> None:
    assert_one_line(eipack("verify", package_file, "--trust", stranger), 1, "none of the keys")


def test_signing_makes_a_package_ones_own(
    eipack: Eipack, package_file: Path, tmp_path: Path, fresh_home: Path
) -> None:
    mine = shutil.copy(package_file, tmp_path / "mine.eipack")
    assert "signed by ec-p256:" in eipack("sign", mine).stdout
    assert eipack("verify", mine).exit_code == 0
    assert len(json.loads(eipack("inspect", mine, "--json").stdout)["signers"]) == 2


def test_a_changed_byte_fails_verification(
    eipack: Eipack, package_file: Path, tmp_path: Path
) -> None:
    data = bytearray(package_file.read_bytes())
    data[len(data) // 2] ^= 1
    changed = tmp_path / "changed.eipack"
    changed.write_bytes(data)
    assert_one_line(eipack("verify", changed), 1, "changed.eipack")
    assert_one_line(eipack("sign", changed), 1, "changed.eipack")
