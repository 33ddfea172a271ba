"""Catalogues: what they price, what is wrong with a file, and what to keep in mind."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from eipack.advisor import Catalogue, Price, builtin, catalogue, read_catalogue
from eipack.advisor.prices import day, warnings_about
from eipack.errors import EipackError

TODAY = date(2026, 11, 23)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.csv"


def usd(prices: tuple[Price, ...]) -> float:
    return sum(price.usd_per_hour for price in prices)


def test_two_catalogues_are_built_in_and_one_is_historical() -> None:
    default, old = builtin()
    assert (default.name, default.historical, len(default.prices)) == ("ec2-2026-07", False, 20)
    assert (old.name, old.historical, len(old.prices)) == ("ei-2020", True, 20)


def test_every_built_in_price_says_where_it_comes_from() -> None:
    for price in (price for one in builtin() for price in one.prices):
        assert price.region
        assert price.basis
        assert day(price.retrieved) <= TODAY
        assert price.source


def test_a_machine_is_priced_with_what_is_built_into_it() -> None:
    (price,) = catalogue("ec2-2026-07").price_of("g4dn.xlarge")
    assert (price.usd_per_hour, price.accelerator, price.accelerator_memory_gib) == (
        0.526,
        "T4",
        16,
    )


def test_a_pair_of_its_own_goes_before_the_sum() -> None:
    prices = (Price("a", None, 1.0), Price("eia2.medium", None, 0.5), Price("a", "eia2.medium", 9))
    assert usd(Catalogue("t", False, prices).price_of("a", "eia2.medium")) == 9
    assert usd(Catalogue("t", False, prices[:2]).price_of("a", "eia2.medium")) == 1.5


def test_a_machine_that_is_priced_only_with_an_accelerator_has_no_price_alone() -> None:
    with pytest.raises(EipackError, match=r"has c5.large only with eia2.medium, .*, not alone"):
        catalogue("ei-2020").price_of("c5.large")


def test_an_unknown_instance_is_told_with_names_that_are_near() -> None:
    with pytest.raises(EipackError, match=r"no price of c5.larg; did you mean c5.large"):
        catalogue("ec2-2026-07").price_of("c5.larg")
    with pytest.raises(EipackError, match=r"no price of n1-standard-4; see: eipack prices show"):
        catalogue("ec2-2026-07").price_of("n1-standard-4")


def test_an_accelerator_without_a_price_is_told_with_the_way_to_give_one() -> None:
    with pytest.raises(EipackError, match=r"no price of eia2.large.*--accelerator-price"):
        catalogue("ec2-2026-07").price_of("c5.large", "eia2.large")


def test_instance_and_price_are_all_that_a_file_needs(file: Path) -> None:
    file.write_text("usd_per_hour,instance\n0.5,mine\n\n 1.25 , other \n")
    read = read_catalogue(file)
    assert (read.name, read.historical) == ("mine.csv", False)
    assert read.prices == (Price("mine", None, 0.5), Price("other", None, 1.25))


def test_a_file_of_a_spreadsheet_is_read(file: Path) -> None:
    file.write_bytes(b'\xef\xbb\xbfinstance,usd_per_hour,remarks\r\n"a, b",0.5,none\r\n')
    assert read_catalogue(file).prices[0].instance == "a, b"


def test_all_columns_are_read(file: Path) -> None:
    file.write_text(
        "instance,usd_per_hour,vcpu,memory_gib,accelerator,accelerator_memory_gib,region,basis,"
        "retrieved,source,currency\nc5.large,0.2,2,4,eia2.medium,2,eu-west-1,spot,2026-11,me,usd\n"
    )
    assert read_catalogue(file).prices == (
        Price("c5.large", "eia2.medium", 0.2, 2, 4, 2, "eu-west-1", "spot", "2026-11", "me"),
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it is empty; write a heading with instance, usd_per_hour"),
        ("\n \n", "it is empty"),
        ("instance,usd_per_hour\n", "a heading and no lines under it"),
        ("instance,price\na,1\n", "no column usd_per_hour; it needs instance, usd_per_hour"),
        ("instance,usd_per_hr\na,1\n", "'usd_per_hr'; did you mean usd_per_hour?"),
        ("instance,instance,usd_per_hour\na,a,1\n", "it has the column instance twice"),
        ("instance,usd_per_hour\na,cheap\n", ":2: usd_per_hour is 'cheap'; write a number"),
        ("instance,usd_per_hour\na,$1\n", ":2: usd_per_hour is '$1'"),
        ("instance,usd_per_hour\na,0\n", ":2: usd_per_hour is 0; it has to be a number above 0"),
        ("instance,usd_per_hour\n\na,-1\n", ":3: usd_per_hour is -1"),
        ("instance,usd_per_hour\na,nan\n", ":2: usd_per_hour is nan"),
        ("instance,usd_per_hour\na,inf\n", ":2: usd_per_hour is inf"),
        ("instance,usd_per_hour\na,\n", ":2: usd_per_hour is empty"),
        ("instance,usd_per_hour\n,1\n", ":2: instance is empty"),
        ("instance,usd_per_hour\na\n", ":2: it has 1 cells and the heading 2"),
        ("instance,usd_per_hour\na,1,2\n", ":2: it has 3 cells and the heading 2"),
        ("instance,usd_per_hour,currency\na,1,EUR\n", ":2: the price is in EUR; convert it"),
        ("instance,usd_per_hour,retrieved\na,1,soon\n", ":2: retrieved is 'soon'; write a date"),
        ("instance,usd_per_hour,memory_gib\na,1,much\n", ":2: memory_gib is 'much'"),
        ("instance,usd_per_hour\na,1\nb,1\na,1\n", ":4: a has a price already, in line 2"),
        (
            "instance,accelerator,usd_per_hour\na,T4,1\na,T4,2\n",
            ":3: a with T4 has a price already",
        ),
        ('instance,usd_per_hour\n"a,1\n', "line 2 is no CSV"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_by_line(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    with pytest.raises(EipackError) as caught:
        read_catalogue(file)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert told in message
    assert len(message.splitlines()) == 1


def test_a_file_that_is_not_utf_8_is_told(file: Path) -> None:
    file.write_bytes("instance,usd_per_hour\nzürich,1\n".encode("latin-1"))
    with pytest.raises(EipackError, match=r"it is not UTF-8"):
        read_catalogue(file)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(EipackError, match=r"cannot read .*: Is a directory"):
        read_catalogue(tmp_path)


def test_neither_a_catalogue_nor_a_file_is_told_with_the_names_that_there_are() -> None:
    with pytest.raises(EipackError, match=r"'ec3'; catalogues are ec2-2026-07 and ei-2020"):
        catalogue("ec3")


def test_regions_and_bases_that_are_mixed_are_warned_of() -> None:
    prices = (
        Price("a", None, 1.0, region="eu", basis="spot", retrieved="2026-11-01"),
        Price("b", None, 1.0, region="us", basis="on-demand", retrieved="2026-11-01"),
    )
    assert list(warnings_about(prices, historical=False, today=TODAY)) == [
        "prices of several regions are compared: eu, us",
        "prices of several bases are compared: on-demand, spot",
    ]


@pytest.mark.parametrize(
    ("retrieved", "told"),
    [
        ("2026-05-27", []),
        ("2026-05-26", ["181 days old (2026-05-26)"]),
        ("2026-05", ["206 days old (2026-05)"]),
        ("", ["nobody knows how old the price of a is"]),
    ],
)
def test_prices_older_than_180_days_are_warned_of(retrieved: str, told: list[str]) -> None:
    prices = (Price("a", None, 1.0, retrieved=retrieved),)
    found = list(warnings_about(prices, historical=False, today=TODAY))
    assert len(found) == len(told)
    assert all(part in line for part, line in zip(told, found, strict=True))


def test_historical_prices_are_said_to_be_so_and_not_to_be_old() -> None:
    prices = (Price("a", None, 1.0, retrieved="2020"),)
    (told,) = warnings_about(prices, historical=True, today=TODAY)
    assert "historical" in told
