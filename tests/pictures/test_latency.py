"""The picture of a report shows every row, and nothing of it is cut off."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import evolve

from eipack.errors import EipackError, PackageIOError
from eipack.measuring.report import Report, Row
from eipack.measuring.scenario import Scenario
from eipack.pictures import latency
from eipack.pictures.styles import drawing

from .conftest import HOSTILE, environment, report, row, sweep_rows, usual_rows
from .reading import outside, overlapping, texts

LONG = "cpu+" + "engine_with_a_long_name_" * 4
BARE = evolve(row("cpu"), samples_ns=(), began_ns=(), turns=(), intervals={})
ODD = {
    "one row": [row("cpu")],
    "one call": [row("cpu", calls=1)],
    "a few calls": [row("cpu", calls=12), row("cuda:0", 2.0, calls=31)],
    "equal calls": [evolve(row("cpu"), samples_ns=(5_000_000,) * 1000)],
    "no samples": [BARE],
    "no figures beside p50": [evolve(BARE, p90_ms=None, p95_ms=None, p99_ms=None, mean_ms=None)],
    "all failed": [Row("cuda:9", error="no such device"), Row("eia:1", error="x " * 300)],
    "no rows": [],
    "twelve rows": [row(f"cpu+engine{n}", 2.0 + n, seed=n) for n in range(12)],
    "long names": [row(LONG, program=LONG * 3, error=None), Row(LONG, LONG, error=LONG * 9)],
    "hostile names": [row(HOSTILE, program=HOSTILE), Row(HOSTILE, error=HOSTILE)],
    "another alphabet": [row("cpu", program="模型 модель")],
    "100 to 1": [row("cpu", 100.0), row("cuda:0", 1.0)],
    "a sweep": sweep_rows(),
    "a sweep of batches": [
        row("cpu", 4.0 * n, scenario=Scenario("offline", batch=n), seed=n) for n in (1, 8, 32)
    ],
    "a sweep of rates": [
        row("cpu", 4.0 + n / 50, scenario=Scenario("open-loop", rate_per_s=n)) for n in (50, 100)
    ],
}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return tmp_path / "latency.svg"


class TestShows:
    def test_a_png_is_1200_pixels_wide(self, usual: Report, tmp_path: Path) -> None:
        data = latency.draw(usual, tmp_path / "latency.png").read_bytes()
        assert data.startswith(b"\x89PNG")
        assert struct.unpack(">I", data[16:20]) == (1200,)

    def test_every_row_by_target_program_and_scenario(self, usual: Report, picture: Path) -> None:
        found = texts(latency.draw(usual, picture))
        for one in usual.rows:
            assert one.target in found
        assert "torchscript (trace) · single-stream · eia2.medium" in found

    def test_the_rows_in_the_order_of_the_report(self, usual: Report, picture: Path) -> None:
        found = texts(latency.draw(usual, picture))
        targets = [one.target for one in usual.rows]
        assert [text for text in found if text in targets] == targets

    def test_the_figures_of_a_row(self, picture: Path) -> None:
        one = evolve(row("cpu"), p50_ms=4.996, p90_ms=12.34, p99_ms=1234.5)
        assert "p50 5.00 · p90 12.3 · p99 1,234 ms" in texts(latency.draw(report([one]), picture))

    def test_failed_rows_with_the_reason(self, usual: Report, picture: Path) -> None:
        found = texts(latency.draw(usual, picture))
        assert "✗ failed" in found
        assert "✗ wrong outputs" in found
        assert "output 'logits' is off by 0.31" in found

    def test_which_rows_are_unstable(self, usual: Report, picture: Path) -> None:
        found = texts(latency.draw(usual, picture))
        assert sum(text.startswith("unstable") for text in found) == 1

    def test_where_a_row_ran_if_that_is_not_what_was_asked_for(self, picture: Path) -> None:
        auto = row("auto", ran_on="cpu+openvino")
        assert "auto → cpu+openvino" in texts(latency.draw(report([auto]), picture))

    def test_a_caption_of_what_ran_where_and_when(self, usual: Report, picture: Path) -> None:
        caption = " ".join(texts(latency.draw(usual, picture)))
        for part in ("resnet18, version 3", "c7i.2xlarge", "8488C", "torch 2.13.0", "1,000 calls"):
            assert part in caption
        assert "2026-11-20 09:30 UTC" in caption

    def test_how_many_calls_lie_beyond_the_axis(self, picture: Path) -> None:
        one = row("cpu")
        slow = evolve(one, samples_ns=(*one.samples_ns[:-2], 80_000_000, 90_000_000))
        found = [text for text in texts(latency.draw(report([slow]), picture)) if "slower" in text]
        assert found
        assert "up to 90.0 ms" in found[0]

    @pytest.mark.parametrize(("middle_ms", "logarithmic"), [(11.0, True), (9.0, False)])
    def test_a_logarithmic_axis_if_rows_differ_by_more_than_ten(
        self, middle_ms: float, logarithmic: bool, picture: Path
    ) -> None:
        rows = [row("cuda:0", 1.0), row("cpu", middle_ms)]
        found = texts(latency.draw(report(rows), picture))
        assert ("latency in ms, logarithmic" in found) == logarithmic

    def test_latency_against_throughput_where_loads_vary(self, picture: Path) -> None:
        found = texts(latency.draw(report(sweep_rows()), picture))
        assert "Latency under load" in found
        assert {"x1", "x2", "x4", "x8", "x16", "calls a second"} <= set(found)

    def test_no_second_panel_where_they_do_not(self, usual: Report, picture: Path) -> None:
        assert "Latency under load" not in texts(latency.draw(usual, picture))


class TestFits:
    @pytest.mark.parametrize("name", ODD)
    def test_no_text_is_cut_off_or_covers_another(self, name: str) -> None:
        with drawing():
            sheet = latency.sheet_of(report(ODD[name]))
            assert outside(sheet) == []
            assert overlapping(sheet) == []

    @pytest.mark.parametrize("name", ODD)
    def test_it_can_be_written(self, name: str, picture: Path) -> None:
        assert texts(latency.draw(report(ODD[name]), picture))

    def test_a_long_caption_goes_on_in_more_lines(self, tmp_path: Path) -> None:
        libraries = {f"engine{n}": "1.2.3" for n in range(30)}
        where = environment(machine="M" * 300, libraries=libraries, package="p" * 300)
        with drawing():
            assert outside(latency.sheet_of(report([row("cpu")], environment=where))) == []


class TestIsSafe:
    def test_names_are_texts_and_no_markup(self, picture: Path) -> None:
        latency.draw(report([row(HOSTILE)], environment=environment(package=HOSTILE)), picture)
        source = picture.read_text(encoding="utf-8")
        assert "<script" not in source
        assert any("<script>alert('x')</script>&$\\frac$\\x1b" in text for text in texts(picture))

    @pytest.mark.parametrize("suffix", [".svg", ".png"])
    def test_equal_reports_give_equal_bytes(
        self, usual: Report, tmp_path: Path, suffix: str
    ) -> None:
        first = latency.draw(usual, tmp_path / f"a{suffix}").read_bytes()
        again = latency.draw(report(usual_rows()), tmp_path / f"b{suffix}").read_bytes()
        assert first == again

    def test_the_callers_style_is_neither_used_nor_changed(
        self, usual: Report, tmp_path: Path
    ) -> None:
        import matplotlib as mpl

        plain = latency.draw(usual, tmp_path / "a.svg").read_bytes()
        with mpl.rc_context({"text.color": "#ff0000", "font.size": 30, "svg.fonttype": "path"}):
            before = dict(mpl.rcParams)
            assert latency.draw(usual, tmp_path / "b.svg").read_bytes() == plain
            assert dict(mpl.rcParams) == before

    def test_nothing_heavy_is_loaded_before_something_is_drawn(self) -> None:
        code = (
            "import sys; from eipack.pictures import advice_page, cost, latency, page; "
            "print(*(name for name in ('torch', 'matplotlib', 'jinja2') if name in sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert done.stdout.split() == []


class TestRefuses:
    @pytest.mark.parametrize("name", ["latency.jpg", "latency", "latency.png.txt"])
    def test_other_suffixes(self, usual: Report, tmp_path: Path, name: str) -> None:
        with pytest.raises(EipackError, match=r"cannot draw .*\.png or \.svg"):
            latency.draw(usual, tmp_path / name)
        assert list(tmp_path.iterdir()) == []

    def test_a_suffix_may_be_in_capitals(self, usual: Report, tmp_path: Path) -> None:
        assert latency.draw(usual, tmp_path / "A.PNG").read_bytes().startswith(b"\x89PNG")

    def test_a_folder_that_is_not_there(self, usual: Report, tmp_path: Path) -> None:
        with pytest.raises(PackageIOError, match=r"cannot write .*latency.svg: No such file"):
            latency.draw(usual, tmp_path / "nowhere" / "latency.svg")
