"""`eipack eia attach`, `detach`, `reorder` and `describe-accelerators`, against small servers."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from eipack_eia.attached import Attached, Files, attached, made_id
from eipack_eia.attached import attach as record
from eipack_eia.cli_attached import attach, describe_accelerators, detach, reorder
from eipack_eia.endpoint import Endpoint
from eipack_eia.health import probe

from eipack.errors import (
    AcceleratorDenied,
    AcceleratorUnavailable,
    KeyUnavailable,
    ProtocolError,
)

ID = "eia-" + "ab" * 16
ORIGINAL_FIELDS = ["ordinal", "type", "id", "status"]
Eia = Callable[..., Result]


class Server(ThreadingHTTPServer):
    """Answer GET with what `answers` has for the path, if the token is right."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, Any] = {}
        self.token: str | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint.parse(self.address)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        given = self.headers["Authorization"]
        if self.server.token is not None and given != f"Bearer {self.server.token}":
            self._answer(401, {"error": "the token is wrong"})
        elif self.path.lstrip("/") in self.server.answers:
            self._answer(200, self.server.answers[self.path.lstrip("/")])
        else:
            self._answer(404, {"error": f"nothing at {self.path}"})

    def _answer(self, status: int, document: Any) -> None:
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def described(accelerator_id: str = ID, **more: Any) -> dict[str, Any]:
    return {
        "name": "eipack-eia",
        "version": "0.1.0",
        "extensions": ["binary_tensor_data"],
        "accelerator": {
            "id": accelerator_id,
            "type": "eia2.medium",
            "on": "cpu",
            "host_name": "gpu-7",
            "memory_bytes": 2_000_000_000,
            "memory_free_bytes": 1_500_000_000,
            "requested": {"memory_bytes": 2_000_000_000, "compute_share": 0.5},
            "enforced": {"memory_bytes": None, "compute_share": None},
            "models": ["resnet18"],
            "status": "healthy",
            **more,
        },
    }


@pytest.fixture
def accelerator() -> Iterator[Server]:
    with serving() as server:
        server.answers["v2"] = described()
        yield server


@pytest.fixture
def triton() -> Iterator[Server]:
    with serving() as server:
        server.answers = {
            "v2": {"name": "triton", "version": "2.51.0", "extensions": []},
            "v2/health/ready": None,
            "v2/models/resnet%2018/ready": None,
        }
        yield server


@pytest.fixture(autouse=True)
def config(fresh_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Start with nothing attached; the path is that of the settings folder."""
    for name in ("EIPACK_ACCELERATORS", "EI_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return fresh_home / "config"


@pytest.fixture
def eia() -> Eia:
    """Run a command of the group; what it raises is raised here."""
    group = click.Group(commands=[attach, detach, reorder, describe_accelerators])
    runner = CliRunner(env=dict.fromkeys(("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE")))

    def run(*words: object) -> Result:
        result = runner.invoke(group, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def nobody() -> str:
    """Give an address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text("very-secret\n")
    return path


def devices(eia: Eia) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(eia("describe-accelerators", "--json").stdout)[
        "devices"
    ]
    return found


class TestAttach:
    def test_the_accelerator_is_asked_who_it_is(self, eia: Eia, accelerator: Server) -> None:
        result = eia("attach", accelerator.address)
        assert result.stdout == f"attached eia:0: {ID}, eia2.medium, at {accelerator.address}\n"
        assert attached() == [Attached(0, ID, accelerator.endpoint, "eia2.medium")]

    def test_programs_get_json(self, eia: Eia, accelerator: Server) -> None:
        assert json.loads(eia("attach", accelerator.address, "--json").stdout) == {
            "ordinal": 0,
            "id": ID,
            "type": "eia2.medium",
            "kind": "eipack",
            "endpoint": accelerator.address,
            "model": None,
            "token_file": None,
        }

    def test_attaching_again_keeps_the_ordinal(self, eia: Eia, accelerator: Server) -> None:
        for _ in range(2):
            assert "attached eia:0:" in eia("attach", accelerator.address).stdout
        assert len(attached()) == 1

    def test_one_that_had_the_address_before_is_pointed_out(
        self, eia: Eia, accelerator: Server
    ) -> None:
        eia("attach", accelerator.address)
        accelerator.answers["v2"] = described("eia-new")
        result = eia("attach", accelerator.address)
        assert "attached eia:1: eia-new" in result.stdout
        assert "eipack eia detach 0" in result.stderr

    def test_a_token_file_is_used_and_its_path_recorded(
        self, eia: Eia, accelerator: Server, token_file: Path
    ) -> None:
        accelerator.token = "very-secret"
        result = eia("attach", accelerator.address, "--token-file", token_file)
        assert "very-secret" not in result.output
        assert attached()[0].files == Files(token_file)

    def test_the_token_of_an_accelerator_on_this_host_is_found(
        self, eia: Eia, accelerator: Server, token_file: Path, config: Path
    ) -> None:
        accelerator.token = "very-secret"
        found = config / "eia" / f"{accelerator.address.replace(':', '_')}.token"
        found.parent.mkdir(mode=0o700, parents=True)
        token_file.rename(found)
        eia("attach", accelerator.address)
        assert [one["status"] for one in devices(eia)] == ["healthy"]

    def test_a_wrong_token_attaches_nothing(self, eia: Eia, accelerator: Server) -> None:
        accelerator.token = "very-secret"
        with pytest.raises(AcceleratorDenied, match="the token is wrong"):
            eia("attach", accelerator.address)
        assert attached() == []

    def test_a_missing_token_file_is_said(
        self, eia: Eia, accelerator: Server, tmp_path: Path
    ) -> None:
        with pytest.raises(KeyUnavailable, match="missing"):
            eia("attach", accelerator.address, "--token-file", tmp_path / "missing")

    def test_a_missing_ca_is_said(self, eia: Eia, accelerator: Server, tmp_path: Path) -> None:
        with pytest.raises(KeyUnavailable, match=r"missing\.pem"):
            eia("attach", accelerator.address, "--ca", tmp_path / "missing.pem")
        assert attached() == []

    def test_where_nobody_listens_nothing_is_attached(self, eia: Eia, nobody: str) -> None:
        with pytest.raises(AcceleratorUnavailable, match=f"no accelerator at {nobody}"):
            eia("attach", nobody)
        assert attached() == []

    def test_another_id_than_the_one_wanted_is_refused(self, eia: Eia, accelerator: Server) -> None:
        with pytest.raises(AcceleratorUnavailable, match=f"is {ID}, not eia-other"):
            eia("attach", accelerator.address, "--id", "eia-other")
        assert attached() == []

    @pytest.mark.parametrize(
        "document",
        [
            {"name": "triton", "version": "2.51.0"},
            {"name": "eipack-eia"},
            {**described(), "name": "triton"},
        ],
        ids=["foreign", "unfinished", "other name"],
    )
    def test_what_is_no_eipack_accelerator_is_refused_with_the_next_step(
        self, eia: Eia, accelerator: Server, document: dict[str, Any]
    ) -> None:
        accelerator.answers["v2"] = document
        with pytest.raises(
            ProtocolError, match=rf"attach it as triton\+http://{accelerator.address}"
        ):
            eia("attach", accelerator.address)
        assert attached() == []

    @pytest.mark.parametrize(
        "document",
        [None, [], {}, {"name": 1}, described(type=None), described(memory_bytes="much")],
        ids=range(6),
    )
    def test_an_answer_that_makes_no_sense_is_refused(
        self, eia: Eia, accelerator: Server, document: Any
    ) -> None:
        accelerator.answers["v2"] = document
        with pytest.raises(ProtocolError, match="does not describe itself"):
            eia("attach", accelerator.address)

    def test_an_id_that_is_none_is_not_recorded(self, eia: Eia, accelerator: Server) -> None:
        accelerator.answers["v2"] = described("0")
        with pytest.raises(ProtocolError, match="'0'"):
            eia("attach", accelerator.address)
        assert attached() == []

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["127.0.0.1:port"], "HOST:PORT"),
            (["http://127.0.0.1:1", "--ca", "ca.pem"], "not encrypted"),
            (["127.0.0.1:1", "--model", "resnet18"], "--model"),
            (["triton+http://127.0.0.1:1", "--id", "7"], "--id"),
            ([], "HOST:PORT"),
        ],
    )
    def test_wrong_use_is_said_before_anybody_is_asked(
        self, eia: Eia, words: list[str], told: str
    ) -> None:
        result = eia("attach", *words)
        assert result.exit_code == 2
        assert told in result.stderr


class TestAttachForeign:
    def test_it_gets_an_id_and_is_bound_to_a_model(self, eia: Eia, triton: Server) -> None:
        address = f"triton+http://{triton.address}"
        eia("attach", address, "--model", "resnet 18")
        (one,) = attached()
        assert one.id == made_id(Endpoint.parse(address), "resnet 18")
        assert (one.kind, one.type, one.model) == ("triton", "triton", "resnet 18")

    def test_it_may_be_given_an_id(self, eia: Eia, triton: Server) -> None:
        eia("attach", f"oip+http://{triton.address}", "--id", "eia-mlserver")
        assert attached()[0].id == "eia-mlserver"

    def test_it_is_healthy_when_it_and_its_model_are_ready(self, eia: Eia, triton: Server) -> None:
        eia("attach", f"triton+http://{triton.address}", "--model", "resnet 18")
        (device,) = devices(eia)
        assert (device["status"], device["models"], device["type"]) == (
            "healthy",
            ["resnet 18"],
            "triton",
        )

    def test_it_is_not_healthy_without_its_model(self, eia: Eia, triton: Server) -> None:
        eia("attach", f"triton+http://{triton.address}", "--model", "resnet 18")
        del triton.answers["v2/models/resnet%2018/ready"]
        (device,) = devices(eia)
        assert device["status"] == "unhealthy"
        assert "v2/models/resnet%2018/ready" in device["detail"]


class TestDetachAndReorder:
    @pytest.fixture(autouse=True)
    def _three(self) -> None:
        for n in range(3):
            record(Endpoint("gpu-7", 9000 + n), accelerator_id=f"eia-{n}", type_name="eia2.large")

    def test_detach_leaves_the_others_where_they_are(self, eia: Eia) -> None:
        assert eia("detach", "1").stdout == "detached eia:1: eia-1, eia2.large, at gpu-7:9001\n"
        assert [one.ordinal for one in attached()] == [0, 2]

    def test_an_unknown_one_is_an_error(self, eia: Eia) -> None:
        with pytest.raises(AcceleratorUnavailable, match="'eia-9' is not attached"):
            eia("detach", "eia-9")

    def test_reorder_shows_the_new_order(self, eia: Eia) -> None:
        lines = eia("reorder", "2", "eia-0", "1").stdout.splitlines()
        assert [line.split()[:2] for line in lines[1:]] == [
            ["eia:0", "eia-2"],
            ["eia:1", "eia-0"],
            ["eia:2", "eia-1"],
        ]

    def test_reorder_gives_programs_json(self, eia: Eia) -> None:
        found = json.loads(eia("reorder", "2", "1", "0", "--json").stdout)
        assert [(one["ordinal"], one["id"]) for one in found] == [
            (0, "eia-2"),
            (1, "eia-1"),
            (2, "eia-0"),
        ]

    @pytest.mark.parametrize("names", [["0", "1"], ["0", "1", "2", "0"], []])
    def test_reorder_of_less_or_more_than_all_is_wrong_use(
        self, eia: Eia, names: list[str]
    ) -> None:
        assert eia("reorder", *names).exit_code == 2


class TestDescribe:
    def test_the_object_begins_as_that_of_the_original_tool(
        self, eia: Eia, accelerator: Server
    ) -> None:
        eia("attach", accelerator.address)
        found = json.loads(eia("describe-accelerators", "--json").stdout)
        assert list(found) == ["ei_client_version", "time", "attached_accelerators", "devices"]
        assert found["attached_accelerators"] == 1
        time.strptime(found["time"])
        assert list(found["devices"][0])[:4] == ORIGINAL_FIELDS

    def test_a_healthy_accelerator_is_described_whole(self, eia: Eia, accelerator: Server) -> None:
        eia("attach", accelerator.address)
        (device,) = devices(eia)
        assert 0 < device.pop("round_trip_ms") < 2000
        assert device == {
            "ordinal": 0,
            "type": "eia2.medium",
            "id": ID,
            "status": "healthy",
            "endpoint": accelerator.address,
            "memory_total_bytes": 2_000_000_000,
            "memory_free_bytes": 1_500_000_000,
            "requested": {"memory_bytes": 2_000_000_000, "compute_share": 0.5},
            "enforced": {"memory_bytes": None, "compute_share": None},
            "models": ["resnet18"],
            "detail": "",
        }

    def test_one_that_is_gone_is_unhealthy_and_keeps_what_is_known(
        self, eia: Eia, nobody: str
    ) -> None:
        record(Endpoint.parse(nobody), accelerator_id=ID, type_name="eia2.large")
        (device,) = devices(eia)
        assert [device[name] for name in ORIGINAL_FIELDS] == [0, "eia2.large", ID, "unhealthy"]
        assert f"no accelerator at {nobody}" in device["detail"]
        assert device["round_trip_ms"] is device["memory_total_bytes"] is device["models"] is None

    def test_another_accelerator_at_the_address_is_unhealthy(
        self, eia: Eia, accelerator: Server
    ) -> None:
        eia("attach", accelerator.address)
        accelerator.answers["v2"] = described("eia-new")
        (device,) = devices(eia)
        assert (device["id"], device["status"]) == (ID, "unhealthy")
        assert "another accelerator answers at its address: eia-new" in device["detail"]

    def test_one_that_says_it_is_not_well_is_unhealthy(self, eia: Eia, accelerator: Server) -> None:
        eia("attach", accelerator.address)
        accelerator.answers["v2"] = described(status="draining")
        (device,) = devices(eia)
        assert (device["status"], device["detail"]) == ("unhealthy", "it says that it is draining")

    def test_a_lost_token_file_is_told_beside_a_healthy_accelerator(
        self, eia: Eia, accelerator: Server, tmp_path: Path
    ) -> None:
        record(accelerator.endpoint, accelerator_id=ID)
        record(accelerator.endpoint, Files(tmp_path / "lost"), accelerator_id="eia-2")
        whole, lost = devices(eia)
        assert (whole["status"], lost["status"]) == ("healthy", "unhealthy")
        assert "lost" in lost["detail"]

    def test_one_from_the_environment_is_healthy_without_an_id(
        self, eia: Eia, accelerator: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EIPACK_ACCELERATORS", accelerator.address)
        (device,) = devices(eia)
        assert (device["status"], device["type"]) == ("healthy", "eia2.medium")

    def test_the_visible_ones_are_described_and_the_rest_is_told(
        self, eia: Eia, accelerator: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record(Endpoint("gpu-7"), accelerator_id="eia-far")
        eia("attach", accelerator.address)
        monkeypatch.setenv("EI_VISIBLE_DEVICES", "1")
        result = eia("describe-accelerators", "--json")
        found = json.loads(result.stdout)
        assert found["attached_accelerators"] == 1
        assert [(one["ordinal"], one["id"]) for one in found["devices"]] == [(0, ID)]
        assert "EI_VISIBLE_DEVICES leaves 1 accelerator of 2" in result.stderr

    def test_people_get_a_table(self, eia: Eia, accelerator: Server, nobody: str) -> None:
        eia("attach", accelerator.address)
        record(Endpoint.parse(nobody), accelerator_id="eia-gone")
        head, healthy, gone = eia("describe-accelerators").stdout.splitlines()
        assert head.startswith("target")
        for part in ("eia:0", ID, "eia2.medium", "1.5 GB", "2.0 GB", "ms", "healthy"):
            assert part in healthy
        assert "unhealthy: there is no accelerator" in gone

    def test_where_nothing_is_attached_the_next_step_is_said(self, eia: Eia) -> None:
        assert "eipack eia attach" in eia("describe-accelerators").stdout
        assert devices(eia) == []


class TestProbe:
    @pytest.fixture
    def silent(self) -> Iterator[Endpoint]:
        """Accept connections, and answer none."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield Endpoint("127.0.0.1", listener.getsockname()[1])

    @pytest.fixture
    def trickling(self) -> Iterator[Endpoint]:
        """Send an endless header, a byte at a time."""
        with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
            done = Event()

            def trickle() -> None:
                connection = stack.enter_context(listener.accept()[0])
                connection.sendall(b"HTTP/1.1 200 OK\r\nslow: ")
                while not done.wait(0.02):
                    connection.sendall(b"x")

            thread = Thread(target=trickle)
            thread.start()
            yield Endpoint("127.0.0.1", listener.getsockname()[1])
            done.set()
            thread.join()

    def test_many_that_are_silent_take_no_longer_than_one(self, silent: Endpoint) -> None:
        start = time.monotonic()
        found = probe([Attached(n, f"eia-{n}", silent) for n in range(8)], timeout_s=0.3)
        assert time.monotonic() - start < 1.5
        assert all(f"within {0.3:g} s" in one.detail for one in found)

    def test_one_that_sends_endlessly_is_left_after_the_limit(
        self, trickling: Endpoint, accelerator: Server
    ) -> None:
        both = [Attached(0, "eia-0", trickling), Attached(1, ID, accelerator.endpoint)]
        slow, healthy = probe(both, timeout_s=0.3)
        assert slow.detail == "no answer within 0.3 s"
        assert not healthy.detail

    def test_a_host_name_that_cannot_be_is_unhealthy(self) -> None:
        (one,) = probe([Attached(0, "eia-0", Endpoint("a" * 70 + ".example"))])
        assert one.detail


def test_each_command_shows_an_example(eia: Eia) -> None:
    for command in (attach, detach, reorder, describe_accelerators):
        assert "Example" in eia(command.name, "--help").stdout


def test_the_settings_folder_holds_no_stray_files(
    eia: Eia, accelerator: Server, config: Path
) -> None:
    eia("attach", accelerator.address)
    assert {path.name for path in config.iterdir()} == {"accelerators.json", ".lock"}
