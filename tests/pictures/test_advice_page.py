"""The page of advice gives the sentence, the picture, every choice with its reason, and prices."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eipack.advisor.advice import Advice, Cost, Memory
from eipack.errors import EipackError, PackageIOError
from eipack.pictures import advice_page

from .conftest import HOSTILE, advice, choice, published
from .reading import Page


def written(given: Advice, folder: Path) -> Page:
    return Page(advice_page.write(given, folder / "advice.html"))


def test_the_sentence_is_the_title(few: Advice, tmp_path: Path) -> None:
    assert written(few, tmp_path).headings[0] == few.sentence


def test_there_is_a_section_for_each_part(few: Advice, tmp_path: Path) -> None:
    assert written(few, tmp_path).headings[1:] == [
        "Mind this",
        "Cost and latency",
        "All choices",
        "How many for the rate",
        "Prices",
    ]


def test_every_choice_is_told_with_the_reason_against_it(few: Advice, tmp_path: Path) -> None:
    made = written(few, tmp_path)
    assert ">best<" in made.row("c5.large + eia2.medium")
    assert ">qualifies<" in made.row("g4dn.xlarge")
    assert "1,200 more are needed" in made.row("c5.4xlarge")
    assert ">excluded<" in made.row("c5.xlarge")
    assert "no price for m5.large in ei-2020" in made.row("m5.large")


def test_costs_and_latencies_have_their_intervals(tmp_path: Path) -> None:
    one = choice("c5.large", serial=Cost(0.1234, 0.12, 0.13), p90_ms=10.0)
    line = written(advice([one]), tmp_path).row("c5.large")
    assert '0.123<span class="note">0.120 to 0.130</span>' in line
    assert '10.0<span class="note">9.60 to 10.5</span>' in line


def test_memory_is_told_beside_what_there_is(tmp_path: Path) -> None:
    memory = Memory(least=1_000_000, peak=500_000_000, host=4_000_000_000)
    line = written(advice([choice("c5.large", memory=memory)]), tmp_path).row("c5.large")
    assert '500.0 MB<span class="note">of 4.0 GB</span>' in line


def test_sizing_says_how_many_and_what_they_cost(few: Advice, tmp_path: Path) -> None:
    sizing = written(few, tmp_path).source.split("<h2>How many for the rate")[1]
    assert all(part in sizing for part in (">200<", ">3<", ">459.90<", ">71%<"))


def test_prices_have_their_dates_and_sources(few: Advice, tmp_path: Path) -> None:
    text = written(few, tmp_path).text
    for part in ("ei-2020 (historical)", "us-east-1", "2020-06-01", "published comparison"):
        assert part in text


def test_warnings_are_shown(few: Advice, tmp_path: Path) -> None:
    assert few.warnings[0] in written(few, tmp_path).text


def test_it_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    made = written(published(), tmp_path)
    assert not {tag for tag, _ in made.tags} & {"script", "link", "img", "iframe"}
    assert not re.search(r"https?://|@import|url\((?!#)", made.source)


def test_every_id_is_there_once_and_every_reference_finds_one(few: Advice, tmp_path: Path) -> None:
    made = written(few, tmp_path)
    assert len(made.ids) == len(set(made.ids))
    assert made.references <= set(made.ids)


def test_the_colours_of_the_picture_are_those_of_the_page(few: Advice, tmp_path: Path) -> None:
    assert not re.search("#[0-9a-f]{6}", written(few, tmp_path).source.split("</style>")[1])


def test_equal_advice_gives_equal_bytes(few: Advice, tmp_path: Path) -> None:
    assert written(few, tmp_path).source == written(few, tmp_path).source


def test_hostile_texts_are_shown_and_not_run(tmp_path: Path) -> None:
    hostile = choice(HOSTILE, target=HOSTILE, program=HOSTILE, source=HOSTILE, excluded=HOSTILE)
    made = written(advice([hostile], warnings=(HOSTILE,), package=HOSTILE), tmp_path)
    assert "<script" not in made.source
    assert "<script>alert('x')</script>&$\\frac$" in made.text


@pytest.mark.parametrize("few_of", [[], [choice("c5.large", p90_ms=50.0, serial=None)]])
def test_advice_of_little_has_a_page_too(few_of: list[object], tmp_path: Path) -> None:
    made = written(advice(few_of, prices=None, warnings=()), tmp_path)
    assert "Prices" in made.headings
    assert "Mind this" not in made.headings


def test_another_suffix_is_refused(few: Advice, tmp_path: Path) -> None:
    with pytest.raises(EipackError, match=r"ends in \.html"):
        advice_page.write(few, tmp_path / "advice.png")


def test_a_folder_that_is_not_there_is_an_error(few: Advice, tmp_path: Path) -> None:
    with pytest.raises(PackageIOError, match="cannot write"):
        advice_page.write(few, tmp_path / "nowhere" / "advice.html")
