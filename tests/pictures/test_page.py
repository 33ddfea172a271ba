"""The page of a report reads without any other file, and shows hostile texts as what they are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from attrs import evolve

from eipack.errors import EipackError, PackageIOError
from eipack.measuring.report import Report, Row, Settings, WarmUp
from eipack.measuring.scenario import Scenario
from eipack.pictures import page
from eipack.pictures.again import command

from .conftest import HOSTILE, environment, report, row, sweep_rows, usual_rows
from .reading import Page

BARE = evolve(row("cpu"), samples_ns=(), began_ns=(), turns=(), intervals={})
ODD = {
    "one call": [row("cpu", calls=1)],
    "no samples": [BARE],
    "no times": [evolve(row("cpu"), began_ns=())],
    "all failed": [Row("cuda:9", error="no such device")],
    "no rows": [],
    "another alphabet": [row("cpu", program="模型")],
    "lone surrogates": [row("cpu", program="\ud800")],
    "equal calls": [evolve(row("cpu"), samples_ns=(5_000_000,) * 1000)],
}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("page") / "report.html"
    return Page(page.write(report(usual_rows()), path))


def written(given: Report, folder: Path) -> Page:
    return Page(page.write(given, folder / "report.html"))


class TestHolds:
    def test_a_section_for_each_side_of_the_run(self, known: Page) -> None:
        assert known.headings == [
            "Latency of resnet18, version 3",
            "Summary",
            "Distributions",
            "Percentiles",
            "Over the time of the run",
            "Network, queue and compute",
            "Start and resources",
            "Environment and settings",
            "How to measure it again",
        ]

    def test_figures_with_their_intervals(self, tmp_path: Path) -> None:
        one = evolve(row("cpu"), p90_ms=9.876, intervals={"p90_ms": (9.1, 10.2)})
        line = written(report([one]), tmp_path).row("cpu")
        assert '9.88<span class="note">9.10 to 10.2</span>' in line

    def test_an_interval_without_an_upper_bound_as_open(self, tmp_path: Path) -> None:
        one = evolve(row("cpu"), intervals={"p99_ms": (9.1, None)})
        assert "≥ 9.10" in written(report([one]), tmp_path).row("cpu")

    def test_which_row_is_the_fastest_and_which_tie_with_it(self, tmp_path: Path) -> None:
        rows = [row("cuda:0", 5.0), row("cpu", 5.001, seed=2), row("eia:0", 8.0)]
        made = written(report(rows), tmp_path)
        assert ">fastest<" in made.row("cuda:0") + made.row("cpu")
        assert ">tie<" in made.row("cuda:0") + made.row("cpu")
        assert "fastest" not in made.row("eia:0")

    def test_what_is_to_be_minded_about_a_row(self, tmp_path: Path) -> None:
        restless = row("cpu", drift=0.3, unanswered=7, warm_up=WarmUp(50, 9.0, settled=False))
        line = written(report([restless]), tmp_path).row("cpu")
        assert all(f">{flag}<" in line for flag in ("unstable", "did not settle", "7 unanswered"))

    def test_failed_rows_with_their_reason_and_no_figures(self, known: Page) -> None:
        line = known.row("cpu+rough")
        assert ">wrong outputs<" in line
        assert "is off by 0.31" in line

    def test_the_split_only_where_there_is_one(self, tmp_path: Path) -> None:
        assert not {"Network, queue and compute"} & set(
            written(report([row("cpu")]), tmp_path).headings
        )

    def test_latency_under_load_where_loads_vary(self, tmp_path: Path) -> None:
        assert "Latency under load" in written(report(sweep_rows()), tmp_path).headings

    def test_the_environment_the_digest_and_the_noise_floor(self, known: Page) -> None:
        for part in ("blake3:" + "4f1d" * 16, "8488C", "openvino 2026.1.0", "1.80%", "33.0 GB"):
            assert part in known.text

    def test_only_resources_that_somebody_knows(self, known: Page, tmp_path: Path) -> None:
        assert "device in use" in known.text
        assert "device in use" not in written(report([row("cpu")]), tmp_path).text


class TestAgain:
    def test_the_command_asks_for_the_same_rows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from eipack.cli.commands.bench import bench

        (tmp_path / "resnet18.eipack").touch()
        monkeypatch.chdir(tmp_path)
        loads = [Scenario("closed-loop", 2), Scenario("open-loop", rate_per_s=50.0)]
        rows = [row(target, scenario=one) for target in ("cpu", "eia:0") for one in loads]
        options = {"openvino": {"NUM_STREAMS": 1}}
        flags = {"precision": "bfloat16", "threads": 2, "options": options}
        settings = Settings(calls=500, seed=3, in_process=True, flags=flags)
        name, verb, *words = _words(report(rows, settings=settings))
        asked = bench.make_context("bench", words).params
        assert (name, verb) == ("eipack", "bench")
        assert [str(one) for one in asked["targets"]] == ["cpu", "eia:0"]
        assert asked["programs"] == ("torchscript",)
        assert (tuple(asked["concurrency"]), tuple(asked["rate_per_s"])) == ((2,), (50.0,))
        assert (asked["calls"], asked["seed"], asked["in_process"]) == (500, 3, True)
        assert (asked["precision"], asked["threads"]) == ("bfloat16", 2)
        assert [(one.engine, one.name, one.value) for one in asked["of_engine"]] == [
            ("openvino", "NUM_STREAMS", 1)
        ]

    def test_programs_are_left_out_where_targets_ran_different_ones(self) -> None:
        rows = [row("cpu"), row("cpu+openvino", program="onnx")]
        assert "--program" not in " ".join(command(report(rows)))

    def test_hostile_names_stay_within_their_quotes(self) -> None:
        where = environment(package="'; rm -rf ~ #\n")
        words = _words(report([row(HOSTILE)], environment=where))
        assert words[2] == "'; rm -rf ~ #\\n.eipack"
        assert words[4].startswith("<script>alert('x')</script>&$")


class TestIsWhole:
    def test_it_asks_for_nothing_from_elsewhere(self, known: Page) -> None:
        names = {tag for tag, _ in known.tags}
        assert not names & {"script", "link", "img", "iframe", "object", "image", "base"}
        assert not re.search(r"https?://|@import|url\((?!#)", known.source)
        assert all(
            not name.startswith("on") and name != "src" for _, attrs in known.tags for name in attrs
        )

    def test_every_id_is_there_once_and_every_reference_finds_one(self, known: Page) -> None:
        assert len(known.ids) == len(set(known.ids))
        assert known.references <= set(known.ids)

    def test_every_chart_has_a_name_for_those_who_do_not_see_it(self, known: Page) -> None:
        charts = [attrs for tag, attrs in known.tags if tag == "svg"]
        assert len(charts) == 4
        assert all(attrs["role"] == "img" and attrs["aria-labelledby"] for attrs in charts)

    def test_the_colours_of_charts_are_those_of_the_page(self, known: Page) -> None:
        assert not re.search("#[0-9a-f]{6}", known.source.split("</style>")[1])

    def test_ten_rows_of_a_thousand_calls_are_less_than_a_megabyte(self, tmp_path: Path) -> None:
        rows = [row(f"cpu+engine{n}", 5.0 + n, seed=n) for n in range(10)]
        path = page.write(report(rows), tmp_path / "report.html")
        assert path.stat().st_size < 1_000_000

    def test_many_calls_make_it_no_larger(self, tmp_path: Path) -> None:
        few = page.write(report([row("cpu", calls=2000)]), tmp_path / "few.html")
        many = page.write(report([row("cpu", calls=50_000)]), tmp_path / "many.html")
        assert many.stat().st_size < 1.1 * few.stat().st_size

    def test_equal_reports_give_equal_bytes(self, known: Page, tmp_path: Path) -> None:
        assert written(report(usual_rows()), tmp_path).source == known.source


class TestIsSafe:
    def test_hostile_texts_are_shown_and_not_run(self, tmp_path: Path) -> None:
        rows = [row(HOSTILE, program=HOSTILE), Row(HOSTILE, error=HOSTILE)]
        settings = Settings(flags={HOSTILE: HOSTILE})
        where = environment(package=HOSTILE, machine=HOSTILE, libraries={HOSTILE: HOSTILE})
        made = written(report(rows, environment=where, settings=settings), tmp_path)
        assert "<script" not in made.source
        assert "<script>alert('x')</script>&$\\frac$" in made.text

    def test_characters_that_steer_are_spelt_out(self, tmp_path: Path) -> None:
        made = written(report([row(HOSTILE)]), tmp_path)
        assert not set("\x1b\u202e") & set(made.source)
        assert "\\u202e" in made.text

    @pytest.mark.parametrize("name", ODD)
    def test_a_report_of_little_has_a_page_too(self, name: str, tmp_path: Path) -> None:
        assert (
            "Environment and settings" in written(report(ODD[name], noise=None), tmp_path).headings
        )


class TestIsLegible:
    @pytest.mark.parametrize("mode", ["light", "dark"])
    @pytest.mark.parametrize("text", ["ink", "muted", "alarm", "good", "warn"])
    @pytest.mark.parametrize("ground", ["paper", "back", "soft"])
    def test_texts_stand_out_from_what_they_are_on(
        self, mode: str, text: str, ground: str, known: Page
    ) -> None:
        light, dark = re.findall(r":root \{(.*?)\}", known.source, flags=re.DOTALL)[:2]
        colours = dict(re.findall(r"--(\w+): (#\w{6})", light if mode == "light" else dark))
        assert _contrast(colours[text], colours[ground]) >= 4.5


class TestRefuses:
    def test_another_suffix(self, usual: Report, tmp_path: Path) -> None:
        with pytest.raises(EipackError, match=r"ends in \.html"):
            page.write(usual, tmp_path / "report.pdf")

    def test_a_folder_that_is_not_there(self, usual: Report, tmp_path: Path) -> None:
        with pytest.raises(PackageIOError, match="cannot write"):
            page.write(usual, tmp_path / "nowhere" / "report.html")


def _contrast(one: str, two: str) -> float:
    """Return the contrast ratio as WCAG 2 defines it."""
    lighter, darker = sorted((_luminance(one), _luminance(two)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _words(given: Report) -> list[str]:
    """Return the words of the command as a shell reads them."""
    return shlex.split("\n".join(command(given)).replace("\\\n", ""))
