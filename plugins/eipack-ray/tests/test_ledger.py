"""The book of a pool: leases end by themselves, and nobody gets what another holds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from eipack_ray.ledger import SILENT_S, Ledger
from eipack_ray.messages import Answer, Ask, Held

MEDIUM, GB = "eia2.medium", 1_000_000_000
LEASE_S = 60.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def ledger_of(clock: Clock, count: int = 2, **settings: bool) -> Ledger:
    ledger = Ledger("gpus", LEASE_S, clock=clock, **settings)
    for number in range(count):
        serve(ledger, f"eia-{number}")
    return ledger


def serve(ledger: Ledger, name: str, port: int = 9000, **more: bool) -> None:
    given = {"serving": True, **more}
    ledger.report(name, MEDIUM, 2 * GB, f"127.0.0.1:{port}", "node", **given)  # type: ignore[arg-type]


def lent(answer: Answer) -> str:
    assert answer.grant is not None, answer.why
    return answer.grant.accelerator


def held(lease: str, accelerator: str, *, shared: bool = False) -> Held:
    return Held(lease, "me@here", accelerator, shared)


def test_each_client_gets_an_accelerator_of_its_own(clock: Clock) -> None:
    ledger = ledger_of(clock)
    found = {lent(ledger.lend(Ask(f"l{number}", "me"))) for number in range(2)}
    assert found == {"eia-0", "eia-1"}
    refused = ledger.lend(Ask("l3", "me", MEDIUM))
    assert refused.grant is None
    assert "no free eia2.medium: of 2, 2 are held and 0 not ready" in refused.why


def test_asking_again_with_the_same_lease_gets_the_same_accelerator(clock: Clock) -> None:
    ledger = ledger_of(clock)
    assert lent(ledger.lend(Ask("l1", "me"))) == lent(ledger.lend(Ask("l1", "me")))
    assert sum(bool(one.holders) for one in ledger.members()) == 1


def test_an_unknown_type_is_told_with_those_that_there_are(clock: Clock) -> None:
    assert (
        "has no eia9.huge; it has eia2.medium"
        in ledger_of(clock).lend(Ask("l", "me", "eia9.huge")).why
    )


def test_what_is_given_back_is_free(clock: Clock) -> None:
    ledger = ledger_of(clock, 1)
    ledger.lend(Ask("l1", "me"))
    ledger.release("l1")
    assert lent(ledger.lend(Ask("l2", "you"))) == "eia-0"


def test_a_late_renewal_does_not_bring_back_what_was_given_back(clock: Clock) -> None:
    ledger = ledger_of(clock, 1)
    ledger.lend(Ask("l1", "me"))
    ledger.release("l1")
    assert "given back" in ledger.renew(held("l1", "eia-0")).lost


def test_the_lease_of_a_dead_client_ends(clock: Clock) -> None:
    ledger = ledger_of(clock, 1)
    ledger.lend(Ask("l1", "me"))
    clock.now += LEASE_S - 1
    assert ledger.lend(Ask("l2", "you")).grant is None
    clock.now += 1
    serve(ledger, "eia-0")
    assert lent(ledger.lend(Ask("l2", "you"))) == "eia-0"


def test_a_renewed_lease_goes_on(clock: Clock) -> None:
    ledger = ledger_of(clock, 1)
    ledger.lend(Ask("l1", "me"))
    for _ in range(3):
        clock.now += LEASE_S / 2
        serve(ledger, "eia-0")
        assert not ledger.renew(held("l1", "eia-0")).lost
    assert ledger.lend(Ask("l2", "you")).grant is None


def test_a_lease_that_has_ended_is_taken_up_again_while_nobody_else_has_it(clock: Clock) -> None:
    ledger = ledger_of(clock, 1)
    ledger.lend(Ask("l1", "me"))
    clock.now += LEASE_S
    assert not ledger.renew(held("l1", "eia-0")).lost
    clock.now += LEASE_S
    serve(ledger, "eia-0")
    ledger.lend(Ask("l2", "you"))
    assert "lent it to another client" in ledger.renew(held("l1", "eia-0")).lost


def test_sharing_needs_everybody_to_share(clock: Clock) -> None:
    ledger = ledger_of(clock, 1)
    ledger.lend(Ask("l1", "me", shared=True))
    assert lent(ledger.lend(Ask("l2", "you", shared=True))) == "eia-0"
    assert ledger.lend(Ask("l3", "they")).grant is None


def test_in_a_shared_pool_everybody_shares(clock: Clock) -> None:
    ledger = ledger_of(clock, 1, shared=True)
    for name in ("l1", "l2"):
        grant = ledger.lend(Ask(name, name)).grant
        assert grant is not None
        assert grant.shared


def test_only_what_is_ready_is_lent(clock: Clock) -> None:
    ledger = ledger_of(clock, 0)
    ledger.report("eia-0", MEDIUM, 2 * GB)
    assert [one.state for one in ledger.members()] == ["pending"]
    assert ledger.lend(Ask("l", "me")).grant is None
    serve(ledger, "eia-0", serving=False)
    assert [one.state for one in ledger.members()] == ["restarting"]
    assert ledger.lend(Ask("l", "me")).grant is None
    serve(ledger, "eia-0")
    clock.now += SILENT_S + 1
    assert [one.state for one in ledger.members()] == ["lost"]
    assert ledger.lend(Ask("l", "me")).grant is None
    serve(ledger, "eia-0")
    assert lent(ledger.lend(Ask("l", "me"))) == "eia-0"


def test_a_renewal_tells_the_address_that_an_accelerator_has_now(clock: Clock) -> None:
    ledger = ledger_of(clock, 1)
    ledger.lend(Ask("l1", "me"))
    serve(ledger, "eia-0", 9001, serving=False)
    assert ledger.renew(held("l1", "eia-0")).endpoint is None
    serve(ledger, "eia-0", 9002)
    assert ledger.renew(held("l1", "eia-0")).endpoint == "127.0.0.1:9002"


def test_a_restarted_registry_takes_over_leases_before_it_lends(clock: Clock) -> None:
    ledger = Ledger("gpus", LEASE_S, recovered=True, clock=clock)
    assert not ledger.renew(held("l1", "eia-0")).lost
    serve(ledger, "eia-0")
    serve(ledger, "eia-1")
    assert "lends again in 60 s" in ledger.lend(Ask("l2", "you")).why
    clock.now += LEASE_S - 1
    ledger.renew(held("l1", "eia-0"))
    clock.now += 1
    for name in ("eia-0", "eia-1"):
        serve(ledger, name)
    assert lent(ledger.lend(Ask("l2", "you"))) == "eia-1"
    assert ledger.lend(Ask("l3", "they")).grant is None


def test_of_an_accelerator_that_was_taken_down_no_lease_is_left(clock: Clock) -> None:
    ledger = ledger_of(clock, 1)
    clock.now += 1
    ledger.forget(["eia-0"])
    assert "no more" in ledger.renew(held("l1", "eia-0")).lost


def test_a_pool_that_shrinks_gives_up_what_nobody_holds_and_lends_it_no_more(clock: Clock) -> None:
    ledger = ledger_of(clock, 2)
    taken = lent(ledger.lend(Ask("l1", "me")))
    (given_up,) = ledger.give_up(MEDIUM, 2)
    assert given_up != taken
    assert ledger.lend(Ask("l2", "you")).grant is None


def test_eight_clients_at_once_never_hold_one_accelerator(clock: Clock) -> None:
    ledger = ledger_of(clock, 5)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: ledger.lend(Ask(f"l{n}", f"c{n}")), range(64)))
    granted = [answer.grant.accelerator for answer in answers if answer.grant is not None]
    assert sorted(granted) == [f"eia-{number}" for number in range(5)]


def test_an_accelerator_that_was_struck_out_does_not_come_back_with_a_late_report(
    clock: Clock,
) -> None:
    ledger = ledger_of(clock, 1)
    ledger.forget(["eia-0"])
    serve(ledger, "eia-0")
    assert ledger.members() == []


def test_a_registry_that_was_restarted_knows_what_it_has_struck_out_itself(clock: Clock) -> None:
    ledger = ledger_of(clock, 1, recovered=True)
    ledger.forget(["eia-0"])
    assert "has that accelerator no more" in ledger.renew(held("a", "eia-0")).lost
