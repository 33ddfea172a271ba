"""Whom this user trusts: adding, removing, and where else trusted keys come from."""

import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from eipack.errors import KeyNotFound, KeyUnavailable, TrustStoreDamaged
from eipack.trust import SigningKey, add, own_key, remove, resolve, trusted_keys

ADD = (
    "import sys; from eipack.trust import SigningKey, add; "
    "[add(SigningKey.generate().public, f'{sys.argv[1]} {n}') for n in range(3)]"
)


@pytest.fixture
def alice_file(tmp_path, alice):
    file = tmp_path / "alice.pem"
    file.write_text(alice.public.pem)
    return file


def sources():
    return [(trusted.source, trusted.label) for trusted in trusted_keys()]


class TestTrustedKeys:
    def test_nobody_is_trusted_at_first(self, config):
        assert trusted_keys() == []

    def test_the_own_key_is_trusted(self, config):
        key = own_key(create=True)
        (trusted,) = trusted_keys()
        assert (trusted.source, trusted.key) == ("own", key.public)
        assert trusted.location == str(config / "signing-key.pem")
        assert trusted.added is not None

    def test_an_own_key_given_as_text_names_the_variable(self, config, monkeypatch, alice):
        monkeypatch.setenv("EIPACK_SIGNING_KEY", alice._pem().decode())
        (trusted,) = trusted_keys()
        assert (trusted.location, trusted.added) == ("EIPACK_SIGNING_KEY", None)

    def test_all_sources_are_listed_in_order(self, config, monkeypatch, alice, bob, alice_file):
        own_key(create=True)
        add(bob.public, "Bob")
        monkeypatch.setenv("EIPACK_TRUSTED_KEYS", str(alice_file))
        assert sources() == [("own", "own key"), ("store", "Bob"), ("environment", "alice")]

    def test_an_unusable_own_key_is_not_left_out_in_silence(self, config):
        own_key(create=True)
        (config / "signing-key.pem").chmod(0o644)
        with pytest.raises(KeyUnavailable):
            trusted_keys()


class TestEnvironment:
    def test_it_may_name_files_and_folders(self, config, monkeypatch, tmp_path, alice, bob):
        folder = tmp_path / "keys"
        folder.mkdir()
        (folder / "bob.pem").write_text(bob.public.pem)
        (folder / "README").write_text("no key")
        (tmp_path / "alice.pem").write_text(alice.public.pem)
        names = ["", str(folder), str(tmp_path / "alice.pem")]
        monkeypatch.setenv("EIPACK_TRUSTED_KEYS", os.pathsep.join(names))
        assert sources() == [("environment", "bob"), ("environment", "alice")]

    def test_a_missing_file_is_an_error(self, config, monkeypatch, tmp_path):
        monkeypatch.setenv("EIPACK_TRUSTED_KEYS", str(tmp_path / "none.pem"))
        with pytest.raises(KeyUnavailable, match="does not exist"):
            trusted_keys()

    def test_a_file_without_a_key_is_named(self, config, monkeypatch, tmp_path):
        (tmp_path / "bad.pem").write_text("no key")
        monkeypatch.setenv("EIPACK_TRUSTED_KEYS", str(tmp_path))
        with pytest.raises(KeyUnavailable, match=r"bad\.pem"):
            trusted_keys()

    def test_a_folder_that_everybody_may_write_is_refused(self, config, monkeypatch, tmp_path):
        folder = tmp_path / "keys"
        folder.mkdir()
        folder.chmod(0o777)
        monkeypatch.setenv("EIPACK_TRUSTED_KEYS", str(folder))
        with pytest.raises(KeyUnavailable, match="changed by others"):
            trusted_keys()

    def test_a_folder_that_cannot_be_listed_is_an_error(self, config, monkeypatch, tmp_path):
        def denied(_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "iterdir", denied)
        monkeypatch.setenv("EIPACK_TRUSTED_KEYS", str(tmp_path))
        with pytest.raises(KeyUnavailable, match="Permission denied"):
            trusted_keys()


class TestAdd:
    def test_an_added_key_is_trusted_with_its_label_and_date(self, config, alice):
        before = datetime.now(UTC).replace(microsecond=0)
        add(alice.public, "Alice")
        (trusted,) = trusted_keys()
        assert (trusted.key, trusted.label, trusted.source) == (alice.public, "Alice", "store")
        assert before <= trusted.added <= datetime.now(UTC)

    def test_it_answers_what_is_then_listed(self, config, alice):
        assert [add(alice.public, "Alice")] == trusted_keys()

    def test_adding_again_changes_the_label_alone(self, config, monkeypatch, alice, bob):
        first = add(alice.public, "Alice")
        later = first.added + timedelta(days=1)
        monkeypatch.setattr("eipack.trust.store._now", lambda: later)
        add(bob.public, "Bob")
        add(alice.public, "Alice of Rome")
        assert [trusted.label for trusted in trusted_keys()] == ["Alice of Rome", "Bob"]
        assert [trusted.added for trusted in trusted_keys()] == [first.added, later]

    def test_a_label_that_another_key_has_is_refused(self, config, alice, bob):
        add(alice.public, "Alice")
        with pytest.raises(ValueError, match=alice.public.key_id):
            add(bob.public, "Alice")

    @pytest.mark.parametrize("label", ["", "  ", "two\nlines", "\x1b[31mred", "x" * 101, "Own key"])
    def test_a_label_that_could_mislead_is_refused(self, config, alice, label):
        with pytest.raises(ValueError, match="label"):
            add(alice.public, label)

    def test_only_this_user_can_change_the_store(self, config, alice):
        add(alice.public, "Alice")
        assert stat.S_IMODE(config.stat().st_mode) == 0o700
        assert stat.S_IMODE((config / "trusted-keys.json").stat().st_mode) == 0o600

    def test_eight_processes_at_once_lose_no_key(self, config):
        processes = [subprocess.Popen([sys.executable, "-c", ADD, str(n)]) for n in range(8)]
        assert [process.wait(timeout=120) for process in processes] == [0] * 8
        labels = {trusted.label for trusted in trusted_keys()}
        assert labels == {f"{process} {n}" for process in range(8) for n in range(3)}

    def test_a_read_only_home_is_said(self, config, monkeypatch, alice):
        def read_only(*_, **__):
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(os, "mkdir", read_only)
        with pytest.raises(KeyUnavailable, match=r"Read-only.*EIPACK_TRUSTED_KEYS"):
            add(alice.public, "Alice")

    def test_no_home_is_said(self, config, monkeypatch, alice):
        monkeypatch.setattr("eipack.trust.store.config_folder", lambda: None)
        with pytest.raises(KeyUnavailable, match=r"no home folder.*EIPACK_TRUSTED_KEYS"):
            add(alice.public, "Alice")


class TestRemove:
    @pytest.fixture(autouse=True)
    def store(self, config, alice, bob):
        add(alice.public, "Alice")
        add(bob.public, "Alicia")

    def test_a_whole_label_goes_before_a_longer_one(self, alice):
        add(SigningKey.generate().public, "Ali")
        assert remove("Ali").label == "Ali"

    def test_a_removed_key_is_trusted_no_more(self, alice, bob):
        assert remove("Alice").key == alice.public
        assert [trusted.key for trusted in trusted_keys()] == [bob.public]

    def test_the_start_of_a_label_is_enough(self, bob):
        assert remove("Alici").key == bob.public

    def test_a_key_id_will_do_with_or_without_its_kind(self, alice, bob):
        assert remove(alice.public.key_id).key == alice.public
        assert remove(bob.public.key_id.removeprefix("ec-p256:")).key == bob.public

    @pytest.mark.parametrize("name", ["Al", "ec-p256:"])
    def test_an_ambiguous_start_removes_nothing(self, name, alice):
        with pytest.raises(KeyNotFound, match=f"may be any of {alice.public.key_id}"):
            remove(name)
        assert len(trusted_keys()) == 2

    @pytest.mark.parametrize("name", ["", "Bob"])
    def test_an_unknown_name_is_an_error(self, name):
        with pytest.raises(KeyNotFound, match="eipack trust list"):
            remove(name)

    def test_a_key_of_the_environment_is_said_to_be_there(self, monkeypatch, tmp_path, alice):
        (tmp_path / "carol.pem").write_text(SigningKey.generate().public.pem)
        monkeypatch.setenv("EIPACK_TRUSTED_KEYS", str(tmp_path / "carol.pem"))
        with pytest.raises(KeyNotFound, match=r"carol\.pem"):
            remove("carol")


class TestDamagedStore:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            "null",
            '{"version": 1}',
            '{"version": 2, "keys": []}',
            '{"version": 1, "keys": [1]}',
            "[" * 100_000,
            "\x00\xff",
        ],
        ids=range(9),
    )
    def test_it_is_refused_and_left_as_it_is(self, config, alice, text):
        config.mkdir(mode=0o700)
        file = config / "trusted-keys.json"
        file.write_text(text)
        for step in (trusted_keys, lambda: add(alice.public, "Alice"), lambda: remove("Alice")):
            with pytest.raises(TrustStoreDamaged, match=r"trusted-keys\.json is damaged"):
                step()
        assert file.read_text() == text

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("key_id", "ec-p256:00"),
            ("public_key", "no key"),
            ("public_key", None),
            ("label", 1),
            ("label", "two\nlines"),
            ("added", "yesterday"),
            ("added", None),
        ],
    )
    def test_a_damaged_entry_is_refused(self, config, alice, name, value):
        add(alice.public, "Alice")
        file = config / "trusted-keys.json"
        document = json.loads(file.read_text())
        document["keys"][0][name] = value
        file.write_text(json.dumps(document))
        with pytest.raises(TrustStoreDamaged, match="damaged"):
            trusted_keys()

    def test_one_that_others_may_write_is_refused(self, config, alice):
        add(alice.public, "Alice")
        (config / "trusted-keys.json").chmod(0o664)
        with pytest.raises(KeyUnavailable, match="chmod 600"):
            trusted_keys()


class TestResolve:
    def test_none_means_all_trusted_keys(self, config, alice):
        own = own_key(create=True)
        add(alice.public, "Alice")
        assert resolve(None) == [own.public, alice.public]

    def test_a_key_means_that_key_alone(self, config, alice, bob):
        add(bob.public, "Bob")
        assert resolve(alice.public) == [alice.public]

    def test_a_path_means_the_key_in_it_alone(self, config, alice, alice_file):
        assert resolve(alice_file) == resolve(str(alice_file)) == [alice.public]

    def test_a_list_means_exactly_its_keys(self, config, alice_file, alice, bob):
        assert resolve([bob.public, alice_file]) == [bob.public, alice.public]

    def test_an_empty_list_means_nobody(self, config):
        own_key(create=True)
        assert resolve([]) == []

    @pytest.mark.parametrize("trust", [True, False, 1, b"key.pem", [None], [[]], object()])
    def test_nothing_else_means_anything(self, config, trust):
        with pytest.raises(TypeError, match="trust takes"):
            resolve(trust)

    def test_a_private_key_is_no_one_to_trust(self, config, alice):
        with pytest.raises(TypeError, match="not SigningKey"):
            resolve(alice)

    def test_a_path_without_a_key_is_an_error(self, config, tmp_path):
        with pytest.raises(KeyUnavailable, match="does not exist"):
            resolve(tmp_path / "none.pem")
