"""Where latencies are read from: reports by their files, and CSV files of figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from eipack.advisor import advise
from eipack.errors import EipackError

from .conftest import PRICES, report, row


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "measured.csv"


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """Write a report that does not say where it was measured."""
    path = tmp_path / "here.json"
    path.write_bytes(report(row(10.0), instance=None).to_json())
    return path


def test_a_report_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(report(row(10.0)).to_json())
    advice = advise(path, prices=PRICES, p90_ms=15)
    assert advice.best is not None
    assert (advice.best.name, advice.best.source) == ("c5.large", str(path))


def test_a_missing_report_is_named_without_its_instance(tmp_path: Path) -> None:
    with pytest.raises(EipackError, match=r"cannot read .*nowhere\.json: "):
        advise(f"{tmp_path / 'nowhere.json'}@c5.large", prices=PRICES)


@pytest.mark.parametrize(
    ("instance", "accelerator", "has"), [("m5.large", "T4", "none"), ("g4dn.xlarge", "A10G", "T4")]
)
def test_a_gpu_that_the_priced_machine_lacks_is_refused(
    table: Path, instance: str, accelerator: str, has: str
) -> None:
    table.write_text(f"instance,accelerator,mean_ms\n{instance},{accelerator},10\n")
    expected = rf"measured\.csv:2: {instance} has no {accelerator} .*\(it has {has}\)"
    with pytest.raises(EipackError, match=expected):
        advise(table)


def test_what_ran_on_a_gpu_has_no_price_on_a_machine_without_one(table: Path) -> None:
    table.write_text("instance,target,mean_ms\nm5.large,cuda:0,1\ng4dn.xlarge,cuda:0,9\n")
    advice = advise(table)
    assert advice.best is not None
    assert advice.best.name == "g4dn.xlarge"
    assert "m5.large has no GPU in the catalogue" in (advice.choices[1].excluded or "")


def test_a_gpu_is_taken_as_built_in_where_a_catalogue_says_nothing_of_gpus(
    table: Path, tmp_path: Path
) -> None:
    table.write_text("instance,accelerator,mean_ms\ng4dn.xlarge,T4,10\n")
    prices = tmp_path / "prices.csv"
    prices.write_text("instance,usd_per_hour\ng4dn.xlarge,0.5\n")
    (choice,) = advise(table, prices=prices).choices
    assert (choice.usd_per_hour, choice.kind) == (0.5, "gpu")


def test_a_report_needs_its_instance(nowhere: Path) -> None:
    with pytest.raises(EipackError, match=r"does not say on which instance.*--instance c5.large"):
        advise(nowhere, prices=PRICES)


def test_the_instance_can_be_given_for_all_or_for_one(nowhere: Path, tmp_path: Path) -> None:
    named = tmp_path / "named.json"
    named.write_bytes(report(row(9.0)).to_json())
    advice = advise([nowhere, named], prices=PRICES, instance="c5.xlarge")
    assert {choice.name for choice in advice.choices} == {"c5.xlarge", "c5.large"}
    (choice,) = advise(f"{named}@gpu.large", prices=PRICES).choices
    assert choice.name == "gpu.large"


def test_a_file_may_have_an_at_sign_in_its_name(tmp_path: Path) -> None:
    path = tmp_path / "me@home.json"
    path.write_bytes(report(row(9.0)).to_json())
    assert advise(path, prices=PRICES).choices[0].name == "c5.large"
    assert advise(f"{path}@c5.xlarge", prices=PRICES).choices[0].name == "c5.xlarge"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        report(row(1.0, calls=3)).to_json()[:-200],
        b"\xff\xfe",
        report(row(1.0, calls=3)).to_json().replace(b'"schema_version":2', b'"schema_version":1'),
        report(row(1.0, calls=3)).to_json().replace(b'"schema_version":2', b'"schema_version":3'),
        report(row(1.0, calls=3)).to_json().replace(b'"mean_ms":1.0', b'"mean_ms":NaN'),
    ],
    ids=["empty", "no report", "a list", "truncated", "binary", "older", "later", "NaN"],
)
def test_what_is_no_report_is_told_by_its_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(data)
    with pytest.raises(EipackError) as caught:
        advise(path, prices=PRICES)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value).splitlines()) == 1


def test_a_report_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(EipackError, match=r"cannot read .*none.json: there is no such file"):
        advise(tmp_path / "none.json", prices=PRICES)


def test_a_report_without_rows_is_told() -> None:
    with pytest.raises(EipackError, match="report 1 has no rows"):
        advise(report(), prices=PRICES)


def test_a_report_in_which_all_failed_advises_nothing() -> None:
    from eipack.measuring.report import Row

    advice = advise(report(Row("cuda:0", error="no such device")), prices=PRICES)
    assert advice.best is None
    assert advice.choices[0].excluded == "it failed: no such device"
    assert advice.choices[0].kind == "gpu"


def test_a_table_needs_only_instance_and_mean(table: Path) -> None:
    table.write_text("host,mean_ms\nc5.large,10\n")
    advice = advise(table, prices=PRICES)
    assert advice.best is not None
    assert advice.best.serial is not None
    assert advice.best.serial.usd == pytest.approx(1.0)
    assert advice.best.source == f"{table}:2"


def test_a_limit_on_a_figure_that_a_table_lacks_is_not_kept(table: Path) -> None:
    table.write_text("instance,mean_ms\nc5.large,10\n")
    advice = advise(table, prices=PRICES, p99_ms=15)
    assert advice.choices[0].verdict == "insufficient"
    assert advice.choices[0].excluded == "its p99_ms was not measured"


def test_a_figure_that_equals_the_limit_keeps_it(table: Path) -> None:
    table.write_text("instance,mean_ms,p90_ms\nc5.large,10,15\nc5.xlarge,10,15.01\n")
    kept, missed = advise(table, prices=PRICES, p90_ms=15).choices
    assert (kept.verdict, missed.verdict) == ("pass", "fail")


def test_the_nearest_is_the_one_whose_worst_figure_misses_by_least(table: Path) -> None:
    table.write_text("instance,mean_ms,p90_ms\nc5.large,5,40\nc5.xlarge,18,19\n")
    nearest = advise(table, prices=PRICES, mean_ms=10, p90_ms=10).nearest
    assert nearest is not None
    assert nearest.name == "c5.xlarge"


def test_a_table_may_name_its_targets(table: Path) -> None:
    table.write_text(
        "instance,target,accelerator,mean_ms\n"
        "c5.large,cpu+openvino,,4\nc5.large,eia:1,eia2.medium,5\ngpu.large,,,1\ngpu.large,cpu,,9\n"
    )
    found = [(c.name, c.target, c.kind) for c in advise(table, prices=PRICES).choices]
    assert sorted(found) == [
        ("c5.large", "cpu+openvino", "cpu"),
        ("c5.large + eia2.medium", "eia:1", "accelerator"),
        ("gpu.large", "cpu", "cpu"),
        ("gpu.large", "cuda:0", "gpu"),
    ]


def test_lines_that_contradict_each_other_are_both_shown(table: Path) -> None:
    table.write_text("instance,mean_ms\nc5.large,10\nc5.large,11\nc5.large,10\n")
    sources = [choice.source for choice in advise(table, prices=PRICES).choices]
    assert sources == [f"{table}:2", f"{table}:3"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("instance,p90_ms\na,1\n", "no column mean_ms; it needs instance, mean_ms"),
        ("instance,mean_ms,p90ms\na,1,2\n", "'p90ms'; did you mean p90_ms?"),
        ("instance,mean_ms\na,fast\n", ":2: mean_ms is 'fast'"),
        ("instance,mean_ms\na,0\n", ":2: mean_ms is 0; it has to be a number above 0"),
        ("instance,mean_ms\na,\n", ":2: mean_ms is empty"),
        ("instance,mean_ms,p50_ms,p90_ms\na,1,3,2\n", ":2: a higher percentile is below"),
        ("instance,mean_ms,target\na,1,cpu:1\n", ":2: target 'cpu:1': there is one cpu"),
        ("host,instance,mean_ms\na,a,1\n", "it has the column instance twice"),
    ],
)
def test_what_is_wrong_with_a_table_is_told_by_line(table: Path, text: str, told: str) -> None:
    table.write_text(text)
    with pytest.raises(EipackError) as caught:
        advise(table, prices=PRICES)
    assert str(caught.value).startswith(str(table))
    assert told in str(caught.value)


def test_a_table_names_its_instances_itself(table: Path) -> None:
    table.write_text("instance,mean_ms\nc5.large,10\n")
    with pytest.raises(EipackError, match=r"leave out @c5.large"):
        advise(f"{table}@c5.large", prices=PRICES)
