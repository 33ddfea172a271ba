"""`eipack eia serve`: what it refuses, what it says, and several slices at once."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from eipack_eia.server import supervisor
from eipack_eia.server.supervisor import Slice

from eipack.cli.root import root

from .conftest import serving

pytestmark = pytest.mark.timeout(60)

Serve = Callable[..., Result]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Run the command in this process, without the processes that it would start."""
    monkeypatch.setattr(Slice, "start", lambda self: None)
    monkeypatch.setattr(supervisor, "supervise", lambda slices, say: None)

    def run(*words: str) -> Result:
        listen = () if "--listen" in words else ("--listen", "127.0.0.1:0")
        command = ["eia", "serve", "--store", str(tmp_path / "store"), *listen, *words]
        return CliRunner().invoke(root, command)

    return run


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def started(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "eipack", "eia", "serve", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=40,
        env=os.environ | environment,
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--type", "eia9.huge"), "there is no type 'eia9.huge'"),
        (("--type", "eia2.medium", "--slices", "eia2.large"), "give --type or --slices, not both"),
        (("--slices", "eia2.medium,eia9.huge"), "there is no type 'eia9.huge'"),
        (("--memory-gb", "0"), "memory"),
        (("--compute-share", "2"), "share"),
        (("--listen", "here:there"), "the port is a number"),
        (("--listen", "ftp://127.0.0.1:1"), "unknown scheme 'ftp'"),
        (("--workers", "0"), "--workers"),
        (("--queue", "0"), "--queue"),
        (("--call-timeout-s", "0"), "--call-timeout-s"),
        (("--on", "cpu:1"), "cpu:1"),
        (("surprise",), "surprise"),
    ],
)
def test_wrong_use_is_told_in_a_line(serve: Serve, words: tuple[str, ...], said: str) -> None:
    result = serve(*words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--listen", "0.0.0.0:0"), "can be reached from other hosts"),
        (("--no-token", "--token-file", "tokens"), "exclude each other"),
        (("--key", "key.pem"), "--key needs TLS"),
        (("--client-ca", "ca.pem"), "--client-ca needs TLS"),
        (("--token-file", "not/there"), "there is no file not/there"),
        (("--cert", "not/there"), "there is no file not/there"),
        (("--allow-host", "two words"), "is no host"),
        (("--listen", "192.0.2.1:8470", "--insecure", "--no-token"), "cannot listen at 192.0.2.1"),
    ],
)
def test_what_leaves_it_open_or_cannot_be_is_refused(
    serve: Serve, words: tuple[str, ...], said: str
) -> None:
    result = serve(*words)
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not result.stdout


def test_a_port_that_is_taken_is_told(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = serve("--listen", address)
    assert result.exit_code == 1
    assert f"cannot listen at {address}: Address already in use" in result.stderr
    assert "choose another --listen" in result.stderr


def test_it_says_in_json_what_it_lends_and_where(serve: Serve) -> None:
    result = serve("--type", "eia2.large", "--json")
    assert result.exit_code == 0
    [one] = lines(result)
    assert re.fullmatch("eia-[0-9a-f]{32}", one["id"])
    assert one["type"] == "eia2.large"
    assert one["on"] == "cpu"
    assert one["memory_bytes"] == 4_000_000_000
    assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d*", one["endpoint"])
    assert not Path(one["token_file"]).exists(), "the token is taken away when it ends"


def test_it_says_to_a_person_how_to_attach_it(serve: Serve) -> None:
    result = serve("--memory-gb", "1")
    first, second = result.stdout.splitlines()
    assert re.match(r"eia-[0-9a-f]{32}: custom \(.*\) on cpu, at 127\.0\.0\.1:\d+", first)
    assert second.startswith("attach it: eipack eia attach 127.0.0.1:")


def test_an_accelerator_keeps_its_id_and_others_have_their_own(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    ids = [lines(serve("--listen", address, "--json"))[0]["id"] for _ in range(2)]
    assert ids[0] == ids[1]
    assert lines(serve("--json"))[0]["id"] != ids[0]


def test_without_tokens_it_names_no_file(serve: Serve) -> None:
    assert lines(serve("--no-token", "--json"))[0]["token_file"] is None


def test_a_device_that_is_not_there_is_told_in_a_line(tmp_path: Path) -> None:
    done = started(
        "--on",
        "cuda:7",
        "--listen",
        "127.0.0.1:0",
        "--store",
        str(tmp_path),
        CUDA_VISIBLE_DEVICES="",
    )
    assert done.returncode == 1
    assert "cuda:7" in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_slices_take_the_ports_that_follow_and_stop_together(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ("--slices", "eia1.medium, eia2.large", "--listen", f"127.0.0.1:{port}")
    with serving(tmp_path / "store", *words) as served:
        assert served.process.stdout is not None
        second = json.loads(served.process.stdout.readline())
        assert served.said["id"] != second["id"]
        assert served.said["endpoint"] == f"127.0.0.1:{port}"
        assert second["endpoint"] == f"127.0.0.1:{port + 1}"
        assert [one["type"] for one in (served.said, second)] == ["eia1.medium", "eia2.large"]
        said = served.control.json("GET", "v2")["accelerator"]
        assert (said["id"], said["type"]) == (served.said["id"], "eia1.medium")
        began = time.monotonic()
        served.stop(signal.SIGINT)
        assert served.process.returncode == 0
        assert time.monotonic() - began < 10
        for number in (port, port + 1):
            with socket.create_server(("127.0.0.1", number)):
                pass
