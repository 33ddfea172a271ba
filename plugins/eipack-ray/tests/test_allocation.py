"""The rules by which a pool chooses an accelerator for a client, and those it gives up."""

from __future__ import annotations

from attrs import evolve
from eipack_ray.allocation import SHARERS, Candidate, Wish, choose, spare

GB = 1_000_000_000


def one(name: str, type_name: str = "eia2.medium", node: str = "n1", **more: object) -> Candidate:
    memory_bytes = {"eia2.medium": 2, "eia2.large": 4}[type_name] * GB
    return Candidate(name, type_name, memory_bytes, node, **more)  # type: ignore[arg-type]


def chosen(candidates: list[Candidate], **wish: object) -> str | None:
    found = choose(candidates, Wish(**wish))  # type: ignore[arg-type]
    return found and found.id


def test_an_accelerator_of_the_type_asked_for_is_chosen() -> None:
    there = [one("a"), one("b", "eia2.large")]
    assert chosen(there, type="eia2.large") == "b"


def test_no_larger_type_is_given_in_place_of_the_one_asked_for() -> None:
    assert chosen([one("b", "eia2.large")], type="eia2.medium") is None


def test_without_a_type_the_smallest_is_chosen() -> None:
    assert chosen([one("b", "eia2.large"), one("a")]) == "a"


def test_what_somebody_holds_is_chosen_for_nobody_else() -> None:
    assert chosen([one("a", holders=1, exclusive=True)]) is None
    assert chosen([one("a", holders=1, exclusive=True)], shared=True) is None
    assert chosen([one("a", holders=1)]) is None


def test_clients_that_share_join_each_other_before_they_open_another() -> None:
    assert chosen([one("a"), one("b", holders=2), one("c", holders=1)], shared=True) == "c"
    full = [one("a"), one("b", holders=SHARERS)]
    assert chosen(full, shared=True) == "a"


def test_the_fullest_node_is_taken() -> None:
    busy = one("x", node="n2", holders=1, exclusive=True)
    assert chosen([one("a", node="n1"), one("b", node="n2"), busy]) == "b"


def test_a_second_accelerator_of_a_client_comes_from_another_node() -> None:
    busy = one("x", node="n2", holders=1, exclusive=True)
    there = [one("a", node="n1"), one("b", node="n2"), busy]
    assert chosen(there, elsewhere=frozenset({"n2"})) == "a"
    assert chosen([evolve(there[1]), busy], elsewhere=frozenset({"n2"})) == "b"


def test_a_pool_gives_up_free_ones_of_the_emptiest_nodes() -> None:
    busy = one("x", node="n1", holders=1, exclusive=True)
    there = [busy, one("a", node="n1"), one("b", node="n2"), one("c", "eia2.large", node="n2")]
    assert [each.id for each in spare(there, "eia2.medium", 1)] == ["b"]
    assert [each.id for each in spare(there, "eia2.medium", 9)] == ["b", "a"]
