"""Accelerators that a plugin lends: how they are recorded, and what is said without the plugin."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result
from eipack_eia import attached, lenders
from eipack_eia.attached import Files
from eipack_eia.cli import eia as group
from eipack_eia.client.whereabouts import Whereabouts
from eipack_eia.endpoint import Endpoint
from eipack_eia.lenders import Lent, Wanted, lender, scheme_of

from eipack.backend import LoadOptions
from eipack.cli.root import root
from eipack.errors import AcceleratorUnavailable, BackendNotFound

WHERE = Endpoint("127.0.0.1", 9)
POOL = "ray://gpus?lease=ab12"


class Fake:
    """A lender with one accelerator; it notes what it is asked for."""

    def __init__(self) -> None:
        self.said: list[object] = []

    def take(self, pool: str, wanted: Wanted, files: Files) -> Lent:
        self.said.append((pool, wanted))
        return Lent("eia-1", "eia2.large", WHERE, POOL)

    def settled(self) -> None:
        self.said.append([one.id for one in attached.attached()])

    def give_back(self, one: attached.Attached) -> None:
        self.said.append(("back", one.pool))

    def find(self, one: attached.Attached, timeout_s: float) -> Endpoint:
        raise AcceleratorUnavailable("it is being started anew", lost=False)


@pytest.fixture(autouse=True)
def config(fresh_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("EIPACK_ACCELERATORS", "EI_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return fresh_home / "config"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    for module in ("lenders", "cli_pooled"):
        monkeypatch.setattr(f"eipack_eia.{module}.lender", lambda scheme: made)
    return made


def eia(*words: str) -> Result:
    return CliRunner().invoke(root, ["eia", *words])


def test_what_is_lent_is_recorded_with_what_its_lender_has_to_know(
    fake: Fake, config: Path
) -> None:
    result = eia("attach", "ray://gpus", "--type", "eia2.large", "--shared", "--wait-s", "3")
    assert result.stdout == "attached eia:0: eia-1, eia2.large, at 127.0.0.1:9\n"
    assert fake.said == [("gpus", Wanted("eia2.large", True, "auto", 3.0)), ["eia-1"]]
    (entry,) = json.loads((config / "accelerators.json").read_text())["accelerators"]
    assert entry["pool"] == POOL
    assert attached.attached()[0].pool == POOL


def test_detaching_gives_it_back(fake: Fake) -> None:
    eia("attach", "ray://gpus")
    assert eia("detach", "0").exit_code == 0
    assert fake.said[-1] == ("back", POOL)


def test_a_new_address_is_recorded_as_long_as_it_is_attached(fake: Fake) -> None:
    eia("attach", "ray://gpus")
    (one,) = attached.attached()
    attached.relocate(one, Endpoint("127.0.0.1", 10))
    assert attached.attached()[0].endpoint.port == 10
    attached.detach(0)
    attached.relocate(one, WHERE)
    assert attached.attached() == []


def test_an_accelerator_with_an_address_of_its_own_has_no_pool_in_its_record(config: Path) -> None:
    attached.attach(WHERE, accelerator_id="eia-1")
    (entry,) = json.loads((config / "accelerators.json").read_text())["accelerators"]
    assert "pool" not in entry


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("127.0.0.1:9", "--type", "eia2.medium"), "--type: is for pools"),
        (("127.0.0.1:9", "--shared"), "--shared: is for pools"),
        (("127.0.0.1:9", "--address", "auto"), "--address: is for pools"),
        (("127.0.0.1:9", "--wait-s", "1"), "--wait-s: is for pools"),
        (("ray://gpus", "--model", "resnet18"), "--model: means nothing for a pool"),
        (("ray://gpus", "--id", "eia-1"), "--id: means nothing for a pool"),
    ],
)
def test_options_of_the_other_way_to_attach_are_wrong_use(
    words: tuple[str, ...], said: str
) -> None:
    result = eia("attach", *words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_without_the_plugin_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    lenders.lender.cache_clear()
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: ())
    monkeypatch.setattr("eipack_eia.cli.entry_points", lambda **_: ())
    monkeypatch.setattr(group, "commands", {n: c for n, c in group.commands.items() if n != "pool"})
    assert scheme_of("ray://gpus") == "ray"
    assert scheme_of("triton+http://gpus:8000") is None
    with pytest.raises(BackendNotFound, match="pip install eipack-ray"):
        lender("ray")
    result = eia("pool", "list")
    assert result.exit_code == 2
    assert "`eia pool` comes with eipack-ray; try: pip install eipack-ray" in result.stderr
    assert eia("--help").exit_code == 0


def test_a_command_that_cannot_be_imported_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("broken", "eipack_eia.not_there:command", "eipack.eia_commands")
    monkeypatch.setattr("eipack_eia.cli.entry_points", lambda **_: (point,))
    assert "broken" in eia("--help").stdout
    result = eia("broken")
    assert result.exit_code == 1
    assert "command `eia broken` cannot be imported: ModuleNotFoundError" in result.stderr


def test_a_session_closed_while_it_is_looked_for_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = attached.Attached(0, "eia-1", WHERE, "eia2.large", None, Files(), POOL)
    held: list[str] = []
    places: list[Place] = []

    class Keeping(Fake):
        def keep(self, one: attached.Attached, lost: Callable[[str], None]) -> Callable[[], None]:
            held.append(one.id)
            return lambda: held.remove(one.id)

    class Place:
        def __init__(self, attached: attached.Attached, *_: object) -> None:
            self.attached = attached
            self.is_open = False
            places.append(self)

        def open(self) -> None:
            if len(places) > 1:
                where.close()
            self.is_open = True

        def close(self) -> None:
            self.is_open = False

    made = Keeping()
    monkeypatch.setattr("eipack_eia.client.whereabouts.lender_of", lambda one: made)
    monkeypatch.setattr("eipack_eia.client.whereabouts.Remote", Place)
    where = Whereabouts(cast("Any", None), "", LoadOptions(), tuple)
    where.open(one)
    assert held == ["eia-1"]
    where.follow(where.remote)
    assert len(places) == 2
    assert held == []
    assert not places[1].is_open


def test_a_pool_without_a_name_is_wrong_use() -> None:
    result = eia("attach", "ray://")
    assert result.exit_code == 2
    assert "ray:// names no pool" in result.stderr
