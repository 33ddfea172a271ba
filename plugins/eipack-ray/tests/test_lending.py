"""Attaching from a pool's registry, over HTTP and without Ray, and giving back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Timer

import psutil
import pytest
from click.testing import CliRunner, Result
from eipack_eia import attached
from eipack_eia.attached import Files
from eipack_eia.client.control import Control
from eipack_eia.lenders import Wanted
from eipack_ray import client, messages
from eipack_ray.attachment import Attachment
from eipack_ray.lender import RayLender

from eipack.cli.root import root
from eipack.errors import AcceleratorDenied, AcceleratorUnavailable, ProtocolError

from .conftest import MEDIUM, NOBODY, Pool, keeper_of, pooling

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("home")]

Eia = Callable[..., Result]
PATIENCE_S = 15.0


@pytest.fixture
def eia() -> Eia:
    def run(*words: str) -> Result:
        return CliRunner().invoke(root, ["eia", *words])

    return run


@pytest.fixture
def attach(eia: Eia, pool: Pool) -> Eia:
    return lambda *words: eia("attach", "ray://gpus", "--address", str(pool.where), *words)


def until(true: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return true()


def test_attaching_takes_an_accelerator_of_the_pool_and_detaching_gives_it_back(
    attach: Eia, eia: Eia, pool: Pool
) -> None:
    pool.add("eia-1")
    result = attach("--type", MEDIUM)
    assert result.stdout == f"attached eia:0: eia-1, {MEDIUM}, at {NOBODY}\n", result.stderr
    assert pool.holders() == ["eia-1"]
    eia("detach", "0")
    assert pool.holders() == []
    assert attached.attached() == []


def test_an_attached_accelerator_is_held_while_its_host_lives_and_no_longer(
    attach: Eia, home: Path
) -> None:
    with pooling(lease_s=2.0) as short:
        short.add("eia-1")
        CliRunner().invoke(root, ["eia", "attach", "ray://gpus", "--address", str(short.where)])
        assert until(lambda: keeper_of(home) is not None)
        time.sleep(4.0)
        assert short.holders() == ["eia-1"], "it was renewed"
        keeper = keeper_of(home)
        assert keeper is not None
        keeper.kill()
        assert until(lambda: not short.holders())


def test_the_keeper_ends_with_the_last_that_is_detached(
    attach: Eia, eia: Eia, pool: Pool, home: Path
) -> None:
    pool.add("eia-1")
    attach()
    assert until(lambda: keeper_of(home) is not None)
    keeper = keeper_of(home)
    assert keeper is not None
    eia("detach", "0")
    assert until(lambda: not keeper.is_running() or keeper.status() == psutil.STATUS_ZOMBIE)


def test_the_keeper_writes_down_where_an_accelerator_has_moved() -> None:
    with pooling(lease_s=1.0) as short:
        short.add("eia-1")
        CliRunner().invoke(root, ["eia", "attach", "ray://gpus", "--address", str(short.where)])
        short.add("eia-1", "127.0.0.1:10")
        assert until(lambda: str(attached.attached()[0].endpoint) == "127.0.0.1:10")


def test_none_that_is_free_is_told_in_a_line(attach: Eia, pool: Pool) -> None:
    pool.add("eia-1")
    attach()
    result = attach()
    assert result.exit_code == 1
    assert "pool gpus has no free accelerator: of 1, 1 are held" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_attaching_may_wait_for_one_to_be_free(attach: Eia, pool: Pool) -> None:
    Timer(0.5, pool.add, ["eia-1"]).start()
    assert attach("--wait-s", "20").exit_code == 0


def test_clients_that_share_get_the_same_one(attach: Eia, pool: Pool) -> None:
    pool.add("eia-1")
    assert attach("--shared").exit_code == 0
    assert attach().exit_code == 1
    answer = client.ask(pool.where, Files(), messages.Ask("other", "you", shared=True))
    assert answer.grant is not None
    assert answer.grant.accelerator == "eia-1"


def test_another_pools_registry_is_refused(eia: Eia, pool: Pool) -> None:
    result = eia("attach", "ray://others", "--address", str(pool.where))
    assert result.exit_code == 1
    assert f"the registry at {pool.where} is that of gpus" in result.stderr


def test_a_record_that_cannot_be_written_leaves_nothing_held(
    attach: Eia, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.add("eia-1")
    monkeypatch.setenv("EIPACK_ACCELERATORS", "gpu1:8470")
    assert attach().exit_code == 1
    assert pool.holders() == []


def test_a_registry_that_is_gone_does_not_keep_anybody_from_detaching(
    attach: Eia, eia: Eia, pool: Pool
) -> None:
    pool.add("eia-1")
    attach()
    pool.stop()
    result = eia("detach", "0")
    assert result.exit_code == 0
    assert "takes it back when the lease ends" in result.stderr


def test_eight_clients_at_once_never_get_one_accelerator(pool: Pool) -> None:
    for number in range(5):
        pool.add(f"eia-{number}")
    wanted = Wanted(address=str(pool.where))

    def take(_: int) -> str | None:
        try:
            return RayLender().take("gpus", wanted, Files()).id
        except AcceleratorUnavailable:
            return None

    with ThreadPoolExecutor(8) as executor:
        taken = list(executor.map(take, range(8)))
    assert sorted(filter(None, taken)) == [f"eia-{number}" for number in range(5)]


def test_the_registry_lists_its_pool_without_ray(eia: Eia, attach: Eia, pool: Pool) -> None:
    pool.add("eia-1")
    attach()
    said = json.loads(eia("pool", "list", "--address", str(pool.where), "--json").stdout)
    (one,) = said["pools"][0]["accelerators"]
    assert (one["id"], one["state"], len(one["holders"])) == ("eia-1", "ready", 1)
    assert one["holders"][0]["client"].startswith("tester@")
    assert "lease" not in one["holders"][0], "that is the client's secret"


def test_a_token_opens_the_registry(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("very-secret\n")
    with pooling(token_file=str(token)) as guarded:
        guarded.add("eia-1")
        ask = messages.Ask("l", "me")
        with pytest.raises(AcceleratorDenied, match="token is missing"):
            client.ask(guarded.where, Files(), ask)
        assert client.ask(guarded.where, Files(token), ask).grant is not None


@pytest.mark.parametrize(
    ("path", "body"), [("v1/elsewhere", b"{}"), ("v1/lease", b"{"), ("v1/lease", b'{"lease": 1}')]
)
def test_what_is_no_request_is_refused(pool: Pool, path: str, body: bytes) -> None:
    with pytest.raises(ProtocolError):
        Control(pool.where).request("POST", path, body)


def test_a_web_page_that_calls_itself_this_host_is_refused(pool: Pool) -> None:
    with pytest.raises(ProtocolError, match="Host header"):
        Control(pool.where).request("GET", "v1/pool", headers={"Host": "evil.example"})


def test_what_is_recorded_is_read_again(pool: Pool) -> None:
    for shared, ray in ((False, None), (True, "auto")):
        one = Attachment("gpus", "ab12", "me@here", pool.where, shared, ray)
        assert Attachment.parse(str(one)) == one


def test_listing_at_an_address_that_is_none_is_wrong_use(eia: Eia) -> None:
    result = eia("pool", "list", "--address", "foo:bar")
    assert result.exit_code == 2
    assert "--address: endpoint 'foo:bar'" in result.stderr


def test_an_address_where_nothing_listens_is_told_at_once(eia: Eia) -> None:
    began = time.monotonic()
    result = eia("pool", "list", "--address", "127.0.0.1:1")
    assert result.exit_code == 1
    assert "no Ray cluster answers at 127.0.0.1:1 (Connection refused)" in result.stderr
    assert time.monotonic() - began < 20.0
