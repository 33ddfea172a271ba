"""The picture of advice shows what each choice costs, how long it takes, and what will not do."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from eipack.advisor.advice import Advice, Cost, Sizing
from eipack.errors import EipackError, PackageIOError
from eipack.pictures import cost
from eipack.pictures.styles import KINDS, drawing

from .conftest import HOSTILE, advice, choice, published
from .reading import ids, outside, overlapping, texts

LONG = "very-long-instance-name.metal-48xlarge"
NONE_FITS = [choice("c5.xlarge", p90_ms=49.9), choice("m5.xlarge", p90_ms=55.2)]
ODD = {
    "no choices": advice([]),
    "one choice": advice([choice("c5.large")]),
    "no limit": advice([choice("c5.large"), choice("c5.xlarge", 0.2)], limits={}),
    "nothing qualifies": advice(NONE_FITS),
    "no costs": advice([evolve(one, serial=None) for one in NONE_FITS]),
    "no latencies": advice([choice("c5.large", latencies={}, intervals={})]),
    "costs of nothing": advice([choice("c5.large", serial=Cost(0.0))]),
    "two limits": advice([choice("c5.large")], limits={"mean_ms": 9.0, "p99_ms": 20.0}),
    "open intervals": advice(
        [choice("c5.large", serial=Cost(0.1, 0.09), intervals={"p90_ms": (8.0, None)})]
    ),
    "25 choices": advice([choice(f"c5.size{n}", 0.1 + n / 50, 3 + n) for n in range(25)]),
    "25 long names": advice(
        [choice(f"{LONG}{n}", 0.1 + n / 50, 3 + n, accelerator=LONG) for n in range(25)]
    ),
    "five programs": advice(
        [choice("c5.large", target=f"cpu+engine{n}", program=f"{n}", usd=n) for n in range(5)]
    ),
    "hostile names": advice([choice(HOSTILE, accelerator=HOSTILE)], package=HOSTILE),
    "latencies that differ by 100": advice([choice("a", p90_ms=1.0), choice("b", p90_ms=900.0)]),
}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return tmp_path / "cost.svg"


def bars(path: Path) -> list[str]:
    found = (name for name in ids(path) if name.startswith("bar-"))
    return sorted(found, key=lambda name: int(name.split("-")[1]))


class TestPublishedTable:
    def test_there_is_a_bar_for_each_choice_in_its_order(self, picture: Path) -> None:
        known = published()
        kinds = [name.split("-")[2] for name in bars(cost.draw(known, picture))]
        assert kinds == [one.kind for one in known.choices]

    def test_the_four_that_miss_the_limit_are_hatched(self, picture: Path) -> None:
        hatched = [name for name in bars(cost.draw(published(), picture)) if "not-qualify" in name]
        assert [name.split("-")[1] for name in hatched] == ["16", "17", "18", "19"]

    def test_kinds_have_their_colours_and_their_letters(self, picture: Path) -> None:
        found = texts(cost.draw(published(), picture))
        source = picture.read_text(encoding="utf-8")
        assert [found.count(letter) for letter in "AGC"] == [12, 4, 4]
        assert {"A: attached accelerator", "G: GPU", "C: CPU"} <= set(found)
        assert all(KINDS[kind][0] in source for kind in ("accelerator", "gpu", "cpu"))

    def test_the_limit_is_drawn_and_labelled(self, picture: Path) -> None:
        assert "limit: p90 < 15 ms" in texts(cost.draw(published(), picture))
        assert {"limit-p90_ms", "line-p90_ms"} <= ids(picture)

    def test_the_best_is_starred(self, picture: Path) -> None:
        starred = [text for text in texts(cost.draw(published(), picture)) if "★" in text]
        assert starred == ["★ c5.large + eia2.medium"]

    def test_costs_are_those_published(self, picture: Path) -> None:
        found = texts(cost.draw(published(), picture))
        assert found.count("0.06") == 2
        assert "0.79" in found

    def test_the_caption_tells_catalogue_basis_and_date(self, picture: Path) -> None:
        caption = " ".join(texts(cost.draw(published(), picture)))
        for part in ("ei-2020 (historical)", "on-demand Linux", "us-east-1", "2020-06-01"):
            assert part in caption

    def test_no_text_is_cut_off(self) -> None:
        with drawing():
            assert outside(cost.sheet_of(published(), about=True)) == []


class TestShows:
    def test_the_sentence_over_the_picture(self, few: Advice, picture: Path) -> None:
        title = " ".join(texts(cost.draw(few, picture)))
        assert few.sentence in title

    def test_what_too_few_calls_leave_open_in_its_own_hatch(
        self, few: Advice, picture: Path
    ) -> None:
        assert "bar-2-cpu-too-few-calls-to-tell" in ids(cost.draw(few, picture))
        assert "too few calls to tell" in texts(picture)

    def test_how_many_have_no_bar(self, few: Advice, picture: Path) -> None:
        caption = " ".join(texts(cost.draw(few, picture)))
        assert "1 without a known cost: no bar" in caption

    def test_the_cost_that_choices_are_ranked_by(self, picture: Path) -> None:
        one = choice("c5.large", saturated=Cost(0.02), sizing=Sizing(100, 3, 372.5, 0.6))
        saturated = texts(cost.draw(advice([one], by="saturated"), picture))
        assert "0.020" in saturated
        assert any("highest throughput" in text for text in saturated)
        monthly = texts(cost.draw(advice([one], by="month"), picture))
        assert "USD a month" in monthly
        assert "372" in monthly

    def test_choices_of_one_machine_by_what_tells_them_apart(self, picture: Path) -> None:
        found = texts(cost.draw(ODD["five programs"], picture))
        assert sum("engine3" in text for text in found) == 1

    @pytest.mark.parametrize("serial", [Cost(0.1), Cost(0.1, 0.09, 0.12), Cost(0.1, 0.09)])
    def test_intervals_where_there_are_any(self, serial: Cost, picture: Path) -> None:
        found = texts(cost.draw(advice([choice("c5.large", serial=serial)]), picture))
        assert ("95 % interval" in found) == (serial.low is not None)


class TestFits:
    @pytest.mark.parametrize("name", ODD)
    def test_no_text_is_cut_off(self, name: str) -> None:
        with drawing():
            assert outside(cost.sheet_of(ODD[name], about=True)) == []

    @pytest.mark.parametrize("name", ["one choice", "nothing qualifies", "no choices"])
    def test_no_text_covers_another(self, name: str) -> None:
        with drawing():
            assert overlapping(cost.sheet_of(ODD[name], about=True)) == []

    @pytest.mark.parametrize("name", ODD)
    def test_it_can_be_written(self, name: str, picture: Path) -> None:
        assert texts(cost.draw(ODD[name], picture))


class TestIsSafe:
    def test_names_are_texts_and_no_markup(self, picture: Path) -> None:
        cost.draw(ODD["hostile names"], picture)
        assert "<script" not in picture.read_text(encoding="utf-8")

    @pytest.mark.parametrize("suffix", [".svg", ".png"])
    def test_equal_advice_gives_equal_bytes(self, tmp_path: Path, suffix: str) -> None:
        first = cost.draw(published(), tmp_path / f"a{suffix}").read_bytes()
        assert cost.draw(published(), tmp_path / f"b{suffix}").read_bytes() == first

    def test_another_suffix_is_refused(self, few: Advice, tmp_path: Path) -> None:
        with pytest.raises(EipackError, match=r"\.png or \.svg"):
            cost.draw(few, tmp_path / "cost.pdf")

    def test_a_folder_that_is_not_there_is_an_error(self, few: Advice, tmp_path: Path) -> None:
        with pytest.raises(PackageIOError, match="cannot write"):
            cost.draw(few, tmp_path / "nowhere" / "cost.png")
