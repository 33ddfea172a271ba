"""Which accelerators are attached: ordinals, the file, and the two environment variables."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from eipack_eia.attached import (
    Attached,
    Files,
    attach,
    attached,
    detach,
    endpoint_for,
    made_id,
    reorder,
    visible,
)
from eipack_eia.endpoint import Endpoint

from eipack.errors import AcceleratorUnavailable, KeyUnavailable, TrustStoreDamaged

ATTACH = (
    "import sys; from eipack_eia.attached import attach; from eipack_eia.endpoint import Endpoint; "
    "[attach(Endpoint('127.0.0.1', 9000), accelerator_id=f'eia-{sys.argv[1]}-{n}')"
    " for n in range(3)]"
)
NOWHERE = Endpoint("127.0.0.1", 8470)


@pytest.fixture(autouse=True)
def file(fresh_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Start with nothing attached; the path is that of the list."""
    for name in ("EIPACK_ACCELERATORS", "EI_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return fresh_home / "config" / "accelerators.json"


@pytest.fixture
def three(file: Path) -> list[Attached]:
    return [attach(Endpoint("127.0.0.1", 9000 + n), accelerator_id=f"eia-{n}") for n in range(3)]


def listed() -> list[tuple[int, str]]:
    return [(one.ordinal, one.id) for one in attached()]


def seen() -> list[tuple[int, str]]:
    return [(one.ordinal, one.id) for one in visible()]


class TestAttach:
    def test_nothing_is_attached_at_first(self) -> None:
        assert attached() == []

    def test_what_is_attached_is_listed_as_it_was_answered(self, tmp_path: Path) -> None:
        files = Files(*(tmp_path / name for name in ("token", "ca", "cert", "key")))
        new = attach(
            Endpoint("::1", 9000, "https"), files, accelerator_id="eia-1", type_name="eia2.large"
        )
        assert attached() == [new]
        assert (new.ordinal, new.type, new.kind, new.model) == (0, "eia2.large", "eipack", None)

    @pytest.mark.parametrize("kind", ["oip", "triton"])
    def test_a_foreign_server_is_known_by_its_scheme(self, kind: str) -> None:
        endpoint = Endpoint.parse(f"{kind}+http://127.0.0.1:8000")
        attach(endpoint, accelerator_id="eia-1", model="resnet18")
        (one,) = attached()
        assert (one.kind, one.endpoint, one.model) == (kind, endpoint, "resnet18")

    def test_ordinals_count_up(self, three: list[Attached]) -> None:
        assert [one.ordinal for one in three] == [0, 1, 2]

    def test_the_lowest_free_ordinal_is_taken(self, three: list[Attached]) -> None:
        detach(0)
        detach(1)
        assert attach(NOWHERE, accelerator_id="eia-new").ordinal == 0

    def test_one_that_is_there_gets_the_new_address_and_keeps_its_ordinal(
        self, three: list[Attached]
    ) -> None:
        detach(0)
        again = attach(NOWHERE, accelerator_id="eia-2")
        assert (again.ordinal, again.endpoint) == (2, NOWHERE)
        assert listed() == [(1, "eia-1"), (2, "eia-2")]

    @pytest.mark.parametrize("name", ["", "1", "eia-", "eia-a,b", "eia-a\n", "eia-" + "a" * 65])
    def test_an_id_that_could_be_mistaken_is_refused(self, name: str, file: Path) -> None:
        with pytest.raises(ValueError, match="write eia-"):
            attach(NOWHERE, accelerator_id=name)
        assert not file.exists()

    def test_only_this_user_can_read_and_change_the_file(
        self, three: list[Attached], file: Path
    ) -> None:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    def test_eight_processes_at_once_lose_none_and_share_no_ordinal(self) -> None:
        processes = [subprocess.Popen([sys.executable, "-c", ATTACH, str(n)]) for n in range(8)]
        assert [process.wait(timeout=120) for process in processes] == [0] * 8
        assert [one.ordinal for one in attached()] == list(range(24))
        ids = {one.id for one in attached()}
        assert ids == {f"eia-{process}-{n}" for process in range(8) for n in range(3)}

    def test_no_home_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("eipack_eia.attached.config_folder", lambda: None)
        assert attached() == []
        with pytest.raises(KeyUnavailable, match=r"no home folder.*EIPACK_ACCELERATORS"):
            attach(NOWHERE, accelerator_id="eia-1")


class TestCredentials:
    def test_a_token_is_read_when_it_is_needed(self, tmp_path: Path) -> None:
        token_file = tmp_path / "token"
        token_file.touch(0o600)
        attach(NOWHERE, Files(token_file), accelerator_id="eia-1")
        (one,) = attached()
        for token in ("first-token", "renewed-token"):
            token_file.write_text(token + "\n")
            assert one.credentials.token == token

    def test_the_token_of_an_accelerator_on_this_host_is_found(self, file: Path) -> None:
        one = attach(NOWHERE, accelerator_id="eia-1")
        assert one.credentials.token is None
        found = file.parent / "eia" / "127.0.0.1_8470.token"
        found.parent.mkdir(mode=0o700)
        found.touch(0o600)
        found.write_text("found-token\n")
        assert one.credentials.token == "found-token"

    def test_the_token_itself_is_recorded_nowhere(self, file: Path, tmp_path: Path) -> None:
        token_file = tmp_path / "token"
        token_file.touch(0o600)
        token_file.write_text("very-secret\n")
        one = attach(NOWHERE, Files(token_file), accelerator_id="eia-1")
        assert one.credentials.token == "very-secret"
        assert "very-secret" not in file.read_text() + repr(one) + str(one)
        assert str(token_file) in file.read_text()

    def test_a_missing_token_file_harms_no_other_accelerator(self, tmp_path: Path) -> None:
        attach(NOWHERE, Files(tmp_path / "none"), accelerator_id="eia-1")
        attach(NOWHERE, accelerator_id="eia-2")
        broken, whole = attached()
        with pytest.raises(KeyUnavailable, match="none"):
            _ = broken.credentials
        assert whole.credentials.token is None

    def test_relative_paths_hold_from_any_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        attach(NOWHERE, Files(Path("token")), accelerator_id="eia-1")
        monkeypatch.chdir("/")
        assert attached()[0].files.token_file == tmp_path / "token"


class TestAddress:
    def test_files_of_tls_make_a_bare_address_encrypted(self) -> None:
        assert endpoint_for("gpu-7:8470", Files(ca=Path("ca.pem"))).scheme == "https"

    @pytest.mark.parametrize("scheme", ["http", "triton+http"])
    def test_files_of_tls_are_refused_where_nothing_is_encrypted(self, scheme: str) -> None:
        with pytest.raises(ValueError, match=r"not encrypted.*https://gpu-7:8470"):
            endpoint_for(f"{scheme}://gpu-7:8470", Files(ca=Path("ca.pem")))

    def test_a_token_does_not_leave_the_host_in_clear_text(self) -> None:
        assert endpoint_for("gpu-7:8470", Files(Path("token"))).scheme == "https"

    @pytest.mark.parametrize(
        "text", ["http://gpu-7:8470", "https://gpu-7:8470", "127.0.0.1:8470", "[::1]:8470"]
    )
    def test_a_token_alone_changes_no_scheme_that_is_written_out_or_local(self, text: str) -> None:
        assert endpoint_for(text, Files(Path("token"))) == Endpoint.parse(text)

    def test_an_id_that_is_made_depends_on_address_and_model_alone(self) -> None:
        made = {made_id(NOWHERE), made_id(NOWHERE, "a"), made_id(Endpoint("127.0.0.1", 1), "a")}
        assert len(made) == 3
        assert made_id(Endpoint("127.0.0.1", 8470), "a") in made
        assert all(re.fullmatch("eia-[0-9a-f]{32}", one) for one in made)

    def test_an_id_that_was_made_is_not_the_accelerators_own(self) -> None:
        assert not Attached(0, made_id(NOWHERE), NOWHERE).has_own_id
        assert Attached(0, "eia-1", NOWHERE).has_own_id


class TestDetach:
    def test_it_leaves_a_hole(self, three: list[Attached]) -> None:
        assert detach(1) == three[1]
        assert listed() == [(0, "eia-0"), (2, "eia-2")]

    @pytest.mark.parametrize("name", [1, "1", "eia-1", "eia:1", " 1 "])
    def test_an_ordinal_an_id_or_a_target_will_do(
        self, three: list[Attached], name: str | int
    ) -> None:
        assert detach(name) == three[1]

    @pytest.mark.parametrize("name", ["3", "-1", "eia-", "", "\u0661", "eia"])
    def test_an_unknown_one_is_refused_with_what_is_there(
        self, three: list[Attached], name: str
    ) -> None:
        with pytest.raises(AcceleratorUnavailable, match=r"attached: eia:0 \(eia-0\), eia:1"):
            detach(name)
        assert attached() == three

    def test_where_nothing_is_attached_the_next_step_is_said(self) -> None:
        with pytest.raises(AcceleratorUnavailable, match="eipack eia attach"):
            detach(0)


class TestReorder:
    def test_the_order_given_is_that_of_the_ordinals(self, three: list[Attached]) -> None:
        answer = reorder(["eia-2", 0, "1"])
        assert listed() == [(0, "eia-2"), (1, "eia-0"), (2, "eia-1")]
        assert answer == attached()

    def test_it_closes_holes(self, three: list[Attached]) -> None:
        detach(0)
        reorder([1, 2])
        assert listed() == [(0, "eia-1"), (1, "eia-2")]

    @pytest.mark.parametrize(
        ("names", "told"),
        [
            ([0, 1], r"missing: eia:2 \(eia-2\)"),
            ([0, 1, 2, "eia-0"], r"eia:0 \(eia-0\) is named twice"),
        ],
    )
    def test_each_is_named_exactly_once(
        self, three: list[Attached], names: list[str | int], told: str
    ) -> None:
        with pytest.raises(ValueError, match=told):
            reorder(names)
        assert attached() == three

    def test_an_unknown_one_changes_nothing(self, three: list[Attached]) -> None:
        with pytest.raises(AcceleratorUnavailable, match="'7' is not attached"):
            reorder([0, 1, 2, 7])
        assert attached() == three


class TestVisible:
    def test_unset_it_leaves_all_with_their_ordinals(self, three: list[Attached]) -> None:
        detach(0)
        assert seen() == [(1, "eia-1"), (2, "eia-2")]

    @pytest.mark.parametrize("value", ["", " "])
    def test_empty_it_leaves_none(
        self, three: list[Attached], monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        monkeypatch.setenv("EI_VISIBLE_DEVICES", value)
        assert visible() == []

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("1", [(0, "eia-1")]),
            ("2,0", [(0, "eia-2"), (1, "eia-0")]),
            ("eia-1, 2", [(0, "eia-1"), (1, "eia-2")]),
        ],
    )
    def test_what_it_names_is_renumbered_in_its_order(
        self,
        three: list[Attached],
        monkeypatch: pytest.MonkeyPatch,
        value: str,
        expected: list[tuple[int, str]],
    ) -> None:
        monkeypatch.setenv("EI_VISIBLE_DEVICES", value)
        assert seen() == expected
        assert attached() == three

    @pytest.mark.parametrize("value", ["3", "0,eia-9", "0,,1", "all"])
    def test_what_is_not_attached_is_an_error(
        self, three: list[Attached], monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        monkeypatch.setenv("EI_VISIBLE_DEVICES", value)
        with pytest.raises(AcceleratorUnavailable, match=r"EI_VISIBLE_DEVICES: .*attached: eia:0"):
            visible()

    def test_one_named_twice_is_an_error(
        self, three: list[Attached], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EI_VISIBLE_DEVICES", "1,eia-1")
        with pytest.raises(AcceleratorUnavailable, match="named twice"):
            visible()


class TestEnvironment:
    def test_it_goes_before_the_file(
        self, three: list[Attached], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EIPACK_ACCELERATORS", "gpu-7:8470,id=eia-9")
        assert listed() == [(0, "eia-9")]

    def test_empty_it_counts_as_unset(
        self, three: list[Attached], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EIPACK_ACCELERATORS", " ")
        assert attached() == three

    def test_it_numbers_in_order_and_takes_every_option(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(
            "EIPACK_ACCELERATORS",
            "127.0.0.1:9000; gpu-7:9001,token-file=/t,ca=/a,cert=/c,key=/k,id=eia-7;"
            "triton+http://gpu-8:8000,model=resnet18;",
        )
        first, second, third = attached()
        files = Files(Path("/t"), Path("/a"), Path("/c"), Path("/k"))
        endpoint = Endpoint("gpu-7", 9001, "https")
        assert first == Attached(0, made_id(first.endpoint), Endpoint("127.0.0.1", 9000))
        assert second == Attached(1, "eia-7", endpoint, files=files)
        assert (third.ordinal, third.kind, third.model) == (2, "triton", "resnet18")

    def test_its_paths_may_begin_at_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/home/ada")
        monkeypatch.setenv("EIPACK_ACCELERATORS", "gpu-7:9001,token-file=~/token")
        assert attached()[0].files.token_file == Path("/home/ada/token")

    def test_what_is_visible_is_chosen_from_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EIPACK_ACCELERATORS", "a:1,id=eia-a;b:1,id=eia-b")
        monkeypatch.setenv("EI_VISIBLE_DEVICES", "eia-b")
        assert seen() == [(0, "eia-b")]

    @pytest.mark.parametrize(
        ("value", "told"),
        [
            ("a:1;b:port", "entry 2: .*port"),
            ("gopher://a:1", "unknown scheme"),
            (",id=eia-1", "write HOST:PORT"),
            ("a:1,colour=red", "'colour' is no option"),
            ("a:1,ca", "'ca' is no option, or has no value"),
            ("a:1,ca=", "has no value"),
            ("a:1,ca=x,ca=y", "'ca' is given twice"),
            ("a:1,id=7", "write eia-"),
            ("a:1;a:1", "one id is listed twice"),
            ("http://a:1,ca=x", "not encrypted"),
        ],
    )
    def test_what_cannot_be_read_is_told_by_entry(
        self, monkeypatch: pytest.MonkeyPatch, value: str, told: str
    ) -> None:
        monkeypatch.setenv("EIPACK_ACCELERATORS", value)
        with pytest.raises(AcceleratorUnavailable, match=rf"EIPACK_ACCELERATORS, .*{told}"):
            attached()

    def test_a_token_put_there_by_mistake_is_not_repeated(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EIPACK_ACCELERATORS", "a:1,token=very-secret")
        with pytest.raises(AcceleratorUnavailable, match="'token' is no option") as caught:
            attached()
        assert "very-secret" not in str(caught.value)

    @pytest.mark.parametrize(
        "change",
        [
            lambda: attach(NOWHERE, accelerator_id="eia-1"),
            lambda: detach(0),
            lambda: reorder([0]),
        ],
        ids=["attach", "detach", "reorder"],
    )
    def test_it_is_changed_in_itself_alone(
        self, monkeypatch: pytest.MonkeyPatch, file: Path, change: Callable[[], object]
    ) -> None:
        monkeypatch.setenv("EIPACK_ACCELERATORS", "a:1")
        with pytest.raises(AcceleratorUnavailable, match="change it there, or unset it"):
            change()
        assert not file.exists()


class TestDamagedFile:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            '{"version": 1}',
            '{"version": 2, "accelerators": []}',
            '{"version": 1, "accelerators": [1]}',
            '{"version": 1, "accelerators": [], "more": 1}',
            "[" * 100_000,
            "\x00\xff",
        ],
        ids=range(9),
    )
    def test_it_is_refused_and_left_as_it_is(self, file: Path, text: str) -> None:
        file.parent.mkdir(mode=0o700)
        file.write_text(text)
        attaching = lambda: attach(NOWHERE, accelerator_id="eia-1")  # noqa: E731
        for step in (attached, visible, attaching, lambda: detach(0), lambda: reorder([0])):
            with pytest.raises(TrustStoreDamaged, match=r"accelerators\.json is damaged"):
                step()
        assert file.read_text() == text

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("ordinal", -1),
            ("ordinal", 1),
            ("ordinal", "0"),
            ("id", "eia-1"),
            ("id", "0"),
            ("endpoint", "gopher://a"),
            ("type", None),
            ("token_file", 1),
            ("colour", "red"),
        ],
    )
    def test_a_damaged_entry_is_refused(
        self, three: list[Attached], file: Path, name: str, value: object
    ) -> None:
        document = json.loads(file.read_text())
        document["accelerators"][0][name] = value
        file.write_text(json.dumps(document))
        with pytest.raises(TrustStoreDamaged, match="damaged"):
            attached()

    def test_one_that_others_may_write_is_refused(self, three: list[Attached], file: Path) -> None:
        file.chmod(0o664)
        with pytest.raises(KeyUnavailable, match="chmod 600"):
            attached()
