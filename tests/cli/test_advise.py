"""`eipack advise`: the table, the sentence, the JSON and the exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Eipack, assert_one_line

PUBLISHED = Path(__file__).parents[2] / "docs/measured/elastic-inference-2020.csv"


@pytest.fixture(autouse=True)
def measured(workplace: Path) -> Path:
    return shutil.copy(PUBLISHED, workplace / "measured.csv")


def ask(eipack: Eipack, *words: object, prices: str = "ei-2020"):
    return eipack("advise", "measured.csv", "--prices", prices, *words)


def test_the_table_is_ranked_and_the_last_line_is_the_advice(eipack: Eipack) -> None:
    result = ask(eipack, "--p90-ms", 15)
    assert result.exit_code == 0, result.stderr
    heading, first, *rest, prices, advice = result.stdout.splitlines()
    columns = ["rank", "what", "target", "usd_per_hour", "mean_ms", "p90_ms"]
    assert heading.split() == [*columns, "serial", "verdict"]
    assert first.split() == [
        *("1", "c5.large", "+", "eia2.medium", "eia:0"),
        *("0.21", "10.03", "9.89", "0.0585", "pass"),
    ]
    assert len(rest) == 19
    assert rest[-1].endswith("fail     p90 is 17.07 ms, above 15 ms")
    assert prices == "US dollars for 100,000 calls; prices: ei-2020, 2020"
    assert advice == (
        "c5.large + eia2.medium meets p90 < 15 ms at the lowest cost: $0.06 per 100,000 calls"
    )
    assert "warning: these prices are historical" in result.stderr


def test_a_limit_that_nothing_meets_is_exit_code_1_with_the_nearest(eipack: Eipack) -> None:
    result = ask(eipack, "--p90-ms", 5)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith(
        "nothing that was measured meets p90 < 5 ms; g4dn.2xlarge comes nearest"
    )


@pytest.mark.parametrize("words", [("--plot", "cost.jpg"), ("--html", "advice.txt")])
def test_a_file_of_no_kind_that_is_drawn_is_wrong_use(eipack: Eipack, words: tuple[str]) -> None:
    assert_one_line(ask(eipack, *words), 2, "name ends in")


def test_a_rate_adds_how_many_and_what_they_cost_a_month(eipack: Eipack) -> None:
    result = ask(eipack, "--p90-ms", 15, "--qps", 100)
    heading, first, *_ = result.stdout.splitlines()
    assert heading.split()[-3:] == ["count", "usd_per_month", "verdict"]
    assert first.split()[-3:] == ["2", "306.60", "pass"]
    assert "$306.60 a month, where 2 of them serve 100 calls a second" in result.stdout


def test_programs_read_json_and_nothing_else_on_stdout(eipack: Eipack) -> None:
    document = json.loads(ask(eipack, "--p90-ms", 15, "--json").stdout)
    assert document["best"]["instance"] == "c5.large"
    assert document["best"]["accelerator"] == "eia2.medium"
    assert document["limits"] == {"p90_ms": 15.0}
    assert len(document["choices"]) == 20


def test_accelerators_can_be_priced_by_hand(eipack: Eipack) -> None:
    words = ("--p90-ms", 15, "--accelerator-price", "eia2.medium=g4dn.xlarge/4")
    result = ask(eipack, *words, prices="ec2-2026-07")
    assert result.stdout.splitlines()[1].split()[:5] == [
        "1",
        "c5.large",
        "+",
        "eia2.medium",
        "eia:0",
    ]


def test_prices_of_ones_own_are_a_file(eipack: Eipack, workplace: Path) -> None:
    (workplace / "mine.csv").write_text("instance,usd_per_hour\ng4dn.xlarge,0.3\n")
    document = json.loads(ask(eipack, "--p90-ms", 15, "--json", prices="mine.csv").stdout)
    assert document["best"]["usd_per_hour"] == 0.3
    assert document["prices"]["catalogue"] == "mine.csv"


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_costs_are_drawn(eipack: Eipack, workplace: Path, suffix: str) -> None:
    result = ask(eipack, "--p90-ms", 15, "--plot", f"cost.{suffix}")
    assert result.exit_code == 0, result.stderr
    assert (workplace / f"cost.{suffix}").stat().st_size > 1000
    assert f"picture: cost.{suffix}" in result.stderr


def test_a_page_is_written(eipack: Eipack, workplace: Path) -> None:
    result = ask(eipack, "--p90-ms", 15, "--html", "advice.html")
    assert result.exit_code == 0, result.stderr
    assert "c5.large + eia2.medium" in (workplace / "advice.html").read_text()


def test_a_file_that_is_there_is_kept_unless_it_is_forced(eipack: Eipack, workplace: Path) -> None:
    (workplace / "advice.html").write_text("mine")
    assert_one_line(ask(eipack, "--html", "advice.html"), 1, "advice.html is there already")
    assert (workplace / "advice.html").read_text() == "mine"
    assert ask(eipack, "--html", "advice.html", "--force").exit_code == 0
    assert (workplace / "advice.html").read_text() != "mine"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--p90-ms", "0"], "0.0 is not in the range x>0"),
        (["--p90-ms", "nan"], "p90_ms is nan; it has to be a number above 0"),
        (["--qps", "-3"], "is not in the range"),
        (["--max-utilisation", "70"], "70.0 is not in the range"),
        (["--by", "month"], "give qps"),
        (["--accelerator-price", "0.12"], "write for example eia2.medium=0.12"),
        (["--accelerator-price", "a=cheap"], "write US dollars an hour (0.12)"),
        (["--accelerator-price", "a=1", "--accelerator-price", "a=2"], "a has two prices"),
    ],
)
def test_wrong_use_is_told(eipack: Eipack, words: list[str], told: str) -> None:
    assert_one_line(ask(eipack, *words), 2, told)


def test_no_report_is_wrong_use(eipack: Eipack) -> None:
    assert_one_line(eipack("advise", "--p90-ms", 15), 2, "eipack advise --help")


def test_a_file_that_is_not_there_is_one_line(eipack: Eipack) -> None:
    assert_one_line(
        eipack("advise", "none.json"), 1, "cannot read none.json: there is no such file"
    )


def test_a_file_that_is_no_report_is_one_line(eipack: Eipack, workplace: Path) -> None:
    (workplace / "report.json").write_text('{"rows": ')
    assert_one_line(eipack("advise", "report.json"), 1, "report.json: ", "no report")


def test_what_a_table_says_cannot_steer_the_terminal(eipack: Eipack, workplace: Path) -> None:
    (workplace / "odd.csv").write_text("instance,mean_ms\nc5.large,1\n\x1b[31mred,1\n")
    result = eipack("advise", "odd.csv")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout


def test_advice_needs_no_torch(measured: Path) -> None:
    words = ["advise", str(measured), "--prices", "ei-2020", "--p90-ms", "15", "--json"]
    code = (
        "import sys\nfrom eipack.cli.root import root\n"
        f"root.main({words!r}, standalone_mode=False)\n"
        "heavy = {'torch', 'matplotlib', 'jinja2', 'ray'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_the_help_has_an_example(script: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = script("advise", "--help")
    assert done.returncode == 0
    assert "eipack advise c5.json g4dn.json --p90-ms 15" in done.stdout


def test_the_defaults_are_those_of_the_function() -> None:
    from inspect import signature

    import eipack.advisor
    from eipack.cli.commands.advise import advise

    function = signature(eipack.advisor.advise).parameters
    for option in advise.params:
        if option.name in {"prices", "max_utilisation"}:
            assert option.default == function[option.name].default
    asked = {option.name for option in advise.params} & set(function)
    assert asked == set(function)
