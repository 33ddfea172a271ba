"""A pool on a Ray cluster of several nodes: all by the command line, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from attrs import define

import eipack
from eipack.errors import AcceleratorError

from .conftest import STOP_S, X, first_line, keeper_of, stop_keeper

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

Right = Callable[[torch.Tensor], bool]
RAY = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "OMP_NUM_THREADS": "1",
}
RECOVER_S = 10.0


@define
class Nodes:
    """A cluster of several nodes on this host, and the settings of the user who has it."""

    process: subprocess.Popen[str]
    address: str
    config: Path

    def order(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        first_line(self.process)

    def eia(self, *words: str, code: int = 0) -> str:
        """Run a command and return what it prints, which is its error where it should fail."""
        command = [sys.executable, "-m", "eipack", "eia", *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, done.stderr
        return done.stderr if code else done.stdout

    def up(self, name: str, *words: str, code: int = 0) -> str:
        given = ("--address", self.address, "--name", name, "--loopback", *words)
        return self.eia("pool", "up", *given, code=code)

    def members(self, name: str) -> list[dict[str, Any]]:
        said = json.loads(self.eia("pool", "list", "--address", self.address, "--json"))
        (pool,) = [one for one in said["pools"] if one["name"] == name]
        members: list[dict[str, Any]] = pool["accelerators"]
        return members

    def registry(self, name: str) -> str:
        said = json.loads(self.eia("pool", "list", "--address", self.address, "--json"))
        return next(str(one["registry"]) for one in said["pools"] if one["name"] == name)

    def attach(self, name: str, *words: str, code: int = 0) -> str:
        return self.eia("attach", f"ray://{name}", "--address", self.address, *words, code=code)


@pytest.fixture
def nodes(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Nodes]:
    """Start a head without processors to lend, and two nodes of two each."""
    token = tmp_path_factory.mktemp("ray") / "token"
    token.touch(0o600)
    token.write_text("ab" * 32)
    for name, value in (RAY | {"RAY_AUTH_TOKEN_PATH": str(token)}).items():
        monkeypatch.setenv(name, value)
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("several_nodes.py")), "0", "2", "2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    children: list[psutil.Process] = []
    try:
        yield Nodes(process, first_line(process).strip(), home)
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.communicate(timeout=2 * STOP_S)
        psutil.wait_procs(children, STOP_S)
        for one in children:
            if one.is_running():
                one.kill()
        stop_keeper(home)


def until(true: Callable[[], bool], patience_s: float) -> bool:
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.2)
    return true()


def recovered(session: eipack.Session, right: Right) -> float:
    """Call until an answer comes; return after how long. What comes before is typed."""
    began = time.monotonic()
    while True:
        try:
            y = session(X)
        except AcceleratorError:
            assert time.monotonic() - began < 60.0
            time.sleep(0.05)
        else:
            assert right(y)
            return time.monotonic() - began


def processes_of(members: list[dict[str, Any]]) -> list[psutil.Process]:
    return [psutil.Process(one["process_id"]) for one in members]


def test_the_life_of_a_pool(nodes: Nodes, package: Path, right: Right) -> None:
    assert "2 accelerators, 2 of them new" in nodes.up("cpus", "--count", "2")
    assert {one["state"] for one in nodes.members("cpus")} == {"ready"}
    assert "0 of them new" in nodes.up("cpus", "--count", "2"), "what is there is left alone"
    assert "with other settings" in nodes.up("cpus", "--count", "2", "--shared", code=1)
    nodes.attach("cpus", "--type", "eia2.medium")

    # in another process
    run = [sys.executable, "-m", "eipack", "run", str(package), "--target", "eia:0"]
    assert subprocess.run(run, check=False, timeout=120).returncode == 0

    with eipack.load(package, "eia:0") as session:
        assert right(session(X))
        (held,) = [one for one in nodes.members("cpus") if one["holders"]]

        # the server's process is killed: the actor starts it anew behind the same address
        psutil.Process(held["process_id"]).kill()
        assert recovered(session, right) < RECOVER_S

        # the actor is killed: Ray starts it anew, and the session follows
        assert until(lambda: all(one["state"] == "ready" for one in nodes.members("cpus")), 60.0)
        (held,) = [one for one in nodes.members("cpus") if one["holders"]]
        server = psutil.Process(held["process_id"])
        actor = server.parent()
        assert actor is not None
        assert "ray::Member" in " ".join(actor.cmdline())
        actor.kill()
        server.kill()
        assert recovered(session, right) < RECOVER_S

    nodes.eia("detach", "0")
    assert not any(one["holders"] for one in nodes.members("cpus"))
    assert until(lambda: all(one["state"] == "ready" for one in nodes.members("cpus")), 60.0)
    servers = processes_of(nodes.members("cpus"))
    assert "1 accelerator" in nodes.up("cpus", "--count", "1")
    assert len(nodes.members("cpus")) == 1
    assert "1 accelerator stopped" in nodes.eia("pool", "down", "cpus", "--address", nodes.address)
    assert until(lambda: not any(one.is_running() for one in servers), 15.0)
    said = nodes.eia("pool", "list", "--address", nodes.address)
    assert "there are no pools" in said
    assert "has no pool 'cpus'" in nodes.attach("cpus", code=1)


def test_a_node_is_lost_and_its_accelerator_comes_back_elsewhere(
    nodes: Nodes, package: Path, right: Right
) -> None:
    nodes.up("cpus", "--count", "2", "--type", "eia2.large")
    nodes.attach("cpus")
    (held,) = [one for one in nodes.members("cpus") if one["holders"]]
    with eipack.load(package, "eia:0", deadline_ms=5000) as session:
        assert right(session(X))
        nodes.order("add 2")
        nodes.order(f"remove {_index_of(nodes, held)}")
        began = time.monotonic()
        first: Exception | None = None
        try:
            right(session(X))
        except AcceleratorError as error:
            first = error
        assert time.monotonic() - began < 7.0, f"an answer or a typed error in time: {first}"
        took = recovered(session, right)
        assert took < 60.0
        assert until(lambda: held["node"] != _node_of(nodes, held["id"]), 30.0)
    nodes.eia("detach", "0")
    nodes.eia("pool", "down", "cpus", "--address", nodes.address)


def _node_of(nodes: Nodes, accelerator: str) -> str:
    """Tell on which node one is; a node that is lost stays its node until it is elsewhere."""
    return next(one["node"] for one in nodes.members("cpus") if one["id"] == accelerator)


def _index_of(nodes: Nodes, held: dict[str, Any]) -> int:
    """Find which of the nodes that were added is the one of an accelerator, by its raylet."""
    actor = psutil.Process(held["process_id"]).parent()
    assert actor is not None
    raylet = actor.ppid()
    children = psutil.Process(nodes.process.pid).children()
    raylets = [one.pid for one in children if "raylet" in one.name()]
    return sorted(raylets, key=lambda pid: psutil.Process(pid).create_time()).index(raylet) - 1


def test_a_dead_client_gives_back_what_it_held_and_eight_never_share_one(nodes: Nodes) -> None:
    nodes.up("cpus", "--count", "3", "--lease-s", "6")
    registry = nodes.registry("cpus")

    def attach(number: int) -> int:
        command = [sys.executable, "-m", "eipack", "eia", "attach", "ray://cpus"]
        settings = nodes.config.parent / f"client-{number}"
        done = subprocess.run(
            [*command, "--address", registry],
            check=False,
            capture_output=True,
            timeout=120,
            env=os.environ | {"EIPACK_CONFIG_DIR": str(settings)},
        )
        return done.returncode

    # each has settings of its own, so the registry's token has to be there too
    for number in range(8):
        tokens = nodes.config.parent / f"client-{number}" / "eia"
        tokens.mkdir(parents=True, mode=0o700)
        tokens.parent.chmod(0o700)
        for token in (nodes.config / "eia").iterdir():
            (tokens / token.name).touch(0o600)
            (tokens / token.name).write_bytes(token.read_bytes())
    clients = [nodes.config.parent / f"client-{number}" for number in range(8)]
    try:
        with ThreadPoolExecutor(8) as executor:
            codes = list(executor.map(attach, range(8)))
        assert sorted(codes) == [0, 0, 0, 1, 1, 1, 1, 1]
        members = nodes.members("cpus")
        assert [len(one["holders"]) for one in members] == [1, 1, 1]
        for client in clients:
            keeper = keeper_of(client)
            if keeper is not None:
                keeper.kill()
        assert until(lambda: not any(one["holders"] for one in nodes.members("cpus")), 30.0)
    finally:
        for client in clients:
            stop_keeper(client)
        nodes.eia("pool", "down", "cpus", "--address", nodes.address)


def test_what_has_no_room_waits_and_says_so(nodes: Nodes) -> None:
    said = nodes.up("cpus", "--count", "2", "--type", "eia2.xlarge", "--wait-s", "2", code=1)
    assert "2 of 2 accelerators are not placed after 2 s; each waits for 4 CPU and 8 GB" in said
    assert {one["state"] for one in nodes.members("cpus")} == {"pending"}
    assert "2 not ready" in nodes.attach("cpus", code=1)
    nodes.eia("pool", "down", "cpus", "--address", nodes.address)
