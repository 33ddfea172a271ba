"""The order of choices, for any costs, intervals and noise."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from eipack.advisor import Choice, Cost
from eipack.advisor.ranking import Weighed, nearest, order

USD = st.floats(0.001, 100)


@st.composite
def weighed(draw: st.DrawFn) -> Weighed:
    usd = draw(USD)
    spread = draw(st.sampled_from([None, 0.0, 0.01, 0.3]))
    bounds = (None, None) if spread is None else (usd * (1 - spread), usd * (1 + spread))
    choice = Choice(
        *("c5.large", None, "cpu", "cpu", None, "float32", f"{draw(st.integers())}", 1.0),
        serial=Cost(usd, bounds[0], draw(st.sampled_from([bounds[1], None]))),
        stable=draw(st.booleans()),
        excluded=draw(st.sampled_from([None, None, "no"])),
    )
    return Weighed(choice, draw(st.sampled_from([0.0, 0.05])), draw(st.floats(0, 3)))


def usd(one: Weighed) -> float:
    assert one.choice.serial is not None
    return one.choice.serial.usd


def lowest(one: Weighed) -> float:
    assert one.choice.serial is not None
    return usd(one) if one.choice.serial.low is None else one.choice.serial.low


def highest(one: Weighed) -> float:
    """Return the upper bound; a lower one alone bounds nothing."""
    assert one.choice.serial is not None
    low, high = one.choice.serial.low, one.choice.serial.high
    return usd(one) if low is high is None else inf if high is None else high


@given(st.lists(weighed(), min_size=1, max_size=12))
def test_the_order_is_by_rank_and_the_cheapest_is_in_the_first(given_: list[Weighed]) -> None:
    ordered = order(given_, "serial")
    ranked = [one for one in ordered if one.choice.excluded is None]
    ranks = [one.choice.rank for one in ranked]
    assert len(ordered) == len(given_)
    assert ordered[: len(ranked)] == ranked
    assert ranks == sorted(rank for rank in ranks if rank)
    assert all(one.choice.rank is None for one in ordered[len(ranked) :])
    if ranked:
        assert min(ranked, key=usd).choice.rank == 1
        assert all(ranks.index(rank) + 1 == rank for rank in ranks if rank)


@given(st.lists(weighed(), min_size=2, max_size=12))
def test_whoever_has_a_worse_rank_is_dearer_beyond_doubt(given_: list[Weighed]) -> None:
    ranked = [one for one in order(given_, "serial") if one.choice.excluded is None]
    for one in ranked:
        group = [o for o in ranked if o.choice.rank == one.choice.rank]
        leaders = [o for o in group if usd(o) == min(map(usd, group))]
        for other in ranked:
            if (other.choice.rank or 0) > (one.choice.rank or 0):
                assert any(lowest(other) > highest(leader) for leader in leaders)
                assert usd(other) > usd(leaders[0]) * (1 + other.noise_floor)


@given(st.lists(weighed(), min_size=1, max_size=12))
def test_the_nearest_misses_by_least(given_: list[Weighed]) -> None:
    found = nearest(given_)
    assert found in [one.choice for one in given_ if one.gap == min(o.gap for o in given_)]
