"""The comparison that was published in 2020 comes out again, to the cent."""

from __future__ import annotations

import csv

import pytest

from eipack.advisor import advise, catalogue
from eipack.advisor.costs import usd_of

from .conftest import PUBLISHED

LINES = list(csv.DictReader(PUBLISHED.read_text().splitlines()))
BY_P90 = ("c5.xlarge", "m5.4xlarge", "p3.2xlarge")


def name_of(line: dict[str, str]) -> str:
    return " + ".join(filter(None, (line["instance"], line["accelerator"])))


def cents(line: dict[str, str], figure: str) -> str:
    prices = catalogue("ei-2020").price_of(line["instance"], line["accelerator"] or None)
    usd_per_hour = sum(price.usd_per_hour for price in prices)
    return f"{usd_of(usd_per_hour, float(line[figure])):.2f}"


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line['table']}: {name_of(line)}")
def test_a_published_cost_is_that_of_the_mean_or_in_three_rows_of_the_p90(
    line: dict[str, str],
) -> None:
    published = line["usd_per_100k_published"]
    if name_of(line) in BY_P90:
        assert (cents(line, "p90_ms"), cents(line, "mean_ms") == published) == (published, False)
    else:
        assert cents(line, "mean_ms") == published


def test_there_are_22_of_which_19_are_by_the_mean() -> None:
    by_mean = [line for line in LINES if cents(line, "mean_ms") == line["usd_per_100k_published"]]
    assert (len(LINES), len(by_mean)) == (22, 19)


def test_the_catalogue_has_the_price_that_was_published_with_each() -> None:
    for line in LINES:
        (price,) = catalogue("ei-2020").price_of(line["instance"], line["accelerator"] or None)
        assert price.usd_per_hour == float(line["usd_per_hour"])


def test_the_published_choice_is_made_at_a_p90_of_15_ms() -> None:
    advice = advise(PUBLISHED, prices="ei-2020", p90_ms=15)
    assert advice.best is not None
    assert advice.best.name == "c5.large + eia2.medium"
    assert advice.sentence == (
        "c5.large + eia2.medium meets p90 < 15 ms at the lowest cost: $0.06 per 100,000 calls"
    )
    failed = {choice.name for choice in advice.choices if choice.verdict == "fail"}
    assert failed == {"c5.xlarge", "m5.xlarge", "c5.4xlarge", "m5.4xlarge"}


def test_lines_that_both_published_tables_have_are_one_choice() -> None:
    assert len(advise(PUBLISHED, prices="ei-2020").choices) == 20


def test_machines_with_a_gpu_are_told_from_those_without() -> None:
    kinds = {choice.name: choice.kind for choice in advise(PUBLISHED, prices="ei-2020").choices}
    assert kinds["g4dn.xlarge"] == kinds["p3.2xlarge"] == "gpu"
    assert kinds["c5.xlarge"] == "cpu"
    assert kinds["c5.xlarge + eia2.large"] == "accelerator"


def test_a_limit_that_nothing_meets_names_the_nearest_and_what_it_lacks() -> None:
    advice = advise(PUBLISHED, prices="ei-2020", p90_ms=5)
    assert advice.best is None
    assert advice.nearest is not None
    assert advice.nearest.name == "g4dn.2xlarge"
    assert advice.sentence == (
        "nothing that was measured meets p90 < 5 ms; g4dn.2xlarge comes nearest: p90 is 5.95 ms, "
        "above 5 ms; it would have to take 16 % less time"
    )


def test_figures_without_samples_and_prices_of_the_past_are_warned_of() -> None:
    historical, no_samples = advise(PUBLISHED, prices="ei-2020").warnings
    assert "historical" in historical
    assert no_samples.startswith("only figures are known of 20 of 20 choices")


def test_what_has_no_price_today_is_shown_with_the_way_to_give_one() -> None:
    advice = advise(PUBLISHED, p90_ms=15)
    assert advice.best is not None
    assert advice.best.name == "g4dn.xlarge"
    reasons = [choice.excluded for choice in advice.choices if choice.kind == "accelerator"]
    assert len(reasons) == 12
    assert all(reason and "--accelerator-price eia2." in reason for reason in reasons)


def test_an_accelerator_can_be_priced_as_a_share_of_a_machine_with_a_gpu() -> None:
    advice = advise(PUBLISHED, p90_ms=15, accelerators={"eia2.medium": "g4dn.xlarge/4"})
    assert advice.best is not None
    assert advice.best.name == "c5.large + eia2.medium"
    assert advice.best.usd_per_hour == pytest.approx(0.085 + 0.526 / 4)
    assert advice.best.memory.accelerator == 2_000_000_000
