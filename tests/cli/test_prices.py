"""`eipack prices`: what is listed, and in which columns."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Eipack, assert_one_line


def test_the_catalogues_are_listed_with_their_dates_and_bases(eipack: Eipack) -> None:
    result = eipack("prices", "list")
    assert result.exit_code == 0, result.stderr
    _, default, old = result.stdout.splitlines()
    assert default.split()[:3] == ["ec2-2026-07", "20", "us-east-1"]
    assert "on-demand Linux" in default
    assert "2026-07-20" in default
    assert old.endswith("historical")


def test_programs_read_the_list_as_json(eipack: Eipack) -> None:
    default, old = json.loads(eipack("prices", "list", "--json").stdout)
    assert (default["name"], default["newest"], default["historical"]) == (
        "ec2-2026-07",
        "2026-07-20",
        False,
    )
    assert (old["name"], old["prices"], old["historical"]) == ("ei-2020", 20, True)


def test_every_price_of_a_catalogue_is_shown_with_its_source(eipack: Eipack) -> None:
    result = eipack("prices", "show", "ei-2020")
    heading, *lines = result.stdout.splitlines()
    assert heading.split()[:3] == ["instance", "accelerator", "usd_per_hour"]
    assert len(lines) == 20
    assert all("published comparison" in line and "2020" in line for line in lines)
    assert result.stderr == (
        "eipack: warning: these prices are historical: nobody can rent at them any more\n"
    )


def test_the_default_catalogue_is_shown_without_a_name(eipack: Eipack) -> None:
    document = json.loads(eipack("prices", "show", "--json").stdout)
    assert document["name"] == "ec2-2026-07"
    assert document["rows"][0]["instance"] == "c5.large"
    assert document["rows"][0]["usd_per_hour"] == 0.085


def test_a_file_of_ones_own_is_shown_with_what_is_doubtful(eipack: Eipack, workplace: Path) -> None:
    (workplace / "mine.csv").write_text(
        "instance,usd_per_hour,retrieved\nold,1,2021-01-01\nother,2,2021-01-01\n"
    )
    result = eipack("prices", "show", "mine.csv")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split() == ["old", "1", "2021-01-01"]
    assert "days old (2021-01-01); check it before you act on it" in result.stderr


def test_what_is_wrong_with_a_file_is_one_line(eipack: Eipack, workplace: Path) -> None:
    (workplace / "mine.csv").write_text("instance,usd_per_hour\na,0\n")
    told = "mine.csv:2: usd_per_hour is 0; it has to be a number above 0"
    assert_one_line(eipack("prices", "show", "mine.csv"), 1, told)
    assert_one_line(eipack("prices", "show", "ec3"), 1, "there is no catalogue or file 'ec3'")
