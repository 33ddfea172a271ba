"""Sessions on an accelerator that a pool has lent: it moves, it is lost, and answers are right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from eipack_eia import attached
from eipack_eia.attached import Attached, Files
from eipack_eia.endpoint import Endpoint
from eipack_eia.lenders import Wanted, lender
from eipack_ray import messages
from eipack_ray.ledger import Ledger

import eipack
from eipack.errors import AcceleratorUnavailable, DeviceNotFound

from .conftest import NOBODY, Pool, X, pooling, serving

pytestmark = pytest.mark.timeout(120)

Right = Callable[[torch.Tensor], bool]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Iterator[dict[str, Any]]:
    with serving(tmp_path_factory.mktemp("store")) as said:
        yield said


def lent(pool: Pool, served: dict[str, Any], *, shared: bool = False) -> Attached:
    """Attach the accelerator as the command line does, but leave the lease to the session."""
    pool.add(served["id"], served["endpoint"])
    wanted = Wanted(address=str(pool.where), shared=shared)
    one = lender("ray").take("gpus", wanted, Files())
    return attached.attach(one.endpoint, accelerator_id=one.id, type_name=one.type, pool=one.pool)


def called(session: eipack.Session, patience_s: float) -> torch.Tensor:
    """Call until an answer comes; what comes before are errors that are typed."""
    end = time.monotonic() + patience_s
    while True:
        try:
            return session(X)
        except AcceleratorUnavailable:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def test_a_session_runs_on_what_was_lent(
    home: Path, pool: Pool, served: dict[str, Any], package: Path, right: Right
) -> None:
    lent(pool, served)
    with eipack.load(package, "eia:0") as session:
        assert right(session(X))
        assert session.info.details["accelerator"] == served["id"]


def test_an_accelerator_that_has_moved_before_is_found(
    home: Path, pool: Pool, served: dict[str, Any], package: Path, right: Right
) -> None:
    one = lent(pool, served)
    attached.relocate(one, Endpoint.parse(NOBODY))
    with eipack.load(package, "eia:0") as session:
        assert right(session(X))


def test_another_accelerator_at_the_old_address_is_not_used(
    home: Path, pool: Pool, served: dict[str, Any], package: Path
) -> None:
    pool.add("eia-mine", served["endpoint"])
    one = lender("ray").take("gpus", Wanted(address=str(pool.where)), Files())
    attached.attach(one.endpoint, accelerator_id=one.id, pool=one.pool)
    with pytest.raises(DeviceNotFound, match="another accelerator answers at its address"):
        eipack.load(package, "eia:0", deadline_ms=1000)


def test_a_session_goes_on_where_the_accelerator_was_started_anew(
    home: Path, pool: Pool, package: Path, right: Right, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        with serving(tmp_path / "store") as first:
            lent(pool, first)
            session = stack.enter_context(eipack.load(package, "eia:0"))
            assert right(session(X))
        pool.add(first["id"], first["endpoint"], serving=False)
        with serving(tmp_path / "store", first["id"]) as second:
            assert second["id"] == first["id"]
            pool.add(second["id"], second["endpoint"])
            assert right(called(session, 10.0))
            assert session.info.details["endpoint"] == second["endpoint"]


def test_an_accelerator_that_stays_away_is_an_error_in_time(
    home: Path, pool: Pool, served: dict[str, Any], package: Path
) -> None:
    one = lent(pool, served)
    pool.add(served["id"], NOBODY, serving=False)
    attached.relocate(one, Endpoint.parse(NOBODY))
    began = time.monotonic()
    with pytest.raises(DeviceNotFound, match="Connection refused"):
        eipack.load(package, "eia:0", deadline_ms=1000)
    assert time.monotonic() - began < 4.0


def test_an_exclusive_lease_that_was_not_renewed_stops_the_session_until_it_is(
    home: Path, served: dict[str, Any], package: Path, right: Right
) -> None:
    with pooling(lease_s=1.0) as short:
        lent(short, served)
        with eipack.load(package, "eia:0", deadline_ms=1000) as session:
            assert right(session(X))
            time.sleep(1.0)  # so that the lease was renewed once
            short.stop()
            time.sleep(2.0)
            with pytest.raises(AcceleratorUnavailable, match="could not be renewed for 1 s"):
                session(X)
            short.start(fresh=False)
            short.add(served["id"], served["endpoint"])
            assert right(called(session, 10.0))


def test_a_shared_lease_outlives_the_registry(
    home: Path, served: dict[str, Any], package: Path, right: Right
) -> None:
    with pooling(lease_s=1.0) as short:
        lent(short, served, shared=True)
        with eipack.load(package, "eia:0") as session:
            time.sleep(1.0)
            short.stop()
            time.sleep(2.0)
            assert right(session(X))


def test_what_was_lent_to_another_is_never_used_again(
    home: Path, served: dict[str, Any], package: Path, right: Right
) -> None:
    with pooling(lease_s=1.0) as short:
        lent(short, served)
        with eipack.load(package, "eia:0") as session:
            assert right(session(X))
            time.sleep(1.0)
            short.stop()
            time.sleep(1.5)
            short.ledger = Ledger("gpus", lease_s=60.0)
            short.add(served["id"], served["endpoint"])
            short.ledger.lend(messages.Ask("other", "you"))
            short.start(fresh=False)
            with pytest.raises(AcceleratorUnavailable, match="lent it to another client"):
                called(session, 0.0)


def test_a_session_keeps_its_lease_for_as_long_as_it_is_open(
    home: Path, served: dict[str, Any], package: Path
) -> None:
    with pooling(lease_s=1.0) as short:
        lent(short, served)
        with eipack.load(package, "eia:0"):
            time.sleep(2.5)
            assert short.holders() == [served["id"]]
        time.sleep(1.5)
        assert short.holders() == []
