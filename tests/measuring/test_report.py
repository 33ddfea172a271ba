from __future__ import annotations

import json

import pytest
from attrs import evolve

from eipack.errors import EipackError
from eipack.measuring import Environment, Report, Row
from eipack.measuring.report import mean_ms, percentile_ms

ENVIRONMENT = Environment(
    date="2026-11-01T10:00:00+00:00",
    machine="a processor",
    cores=2,
    system="Linux x86_64",
    python="3.11.9",
    torch="2.13.0",
    threads=2,
    eipack="0.1.0",
    package="small",
    package_version=None,
    package_digest="blake3:" + "0" * 64,
)
ROW = Row("cpu", "torchscript", ran_on="cpu", calls=2, p50_ms=0.1, samples_ns=(100_000, 250_000))
REPORT = Report(1, "nearest-rank", ENVIRONMENT, (ROW, Row("cuda:0", error="no such device")))


def test_a_report_comes_back_from_json_as_it_was() -> None:
    assert Report.from_json(REPORT.to_json()) == REPORT


def test_text_is_read_like_bytes() -> None:
    assert Report.from_json(REPORT.to_json().decode()) == REPORT


def test_the_json_says_its_version_its_percentiles_and_every_sample() -> None:
    read = json.loads(REPORT.to_json())
    assert (read["schema_version"], read["percentile"]) == (1, "nearest-rank")
    assert read["rows"][0]["samples_ns"] == [100_000, 250_000]
    assert read["environment"]["machine"] == "a processor"


def test_a_later_schema_is_refused_with_the_remedy() -> None:
    later = REPORT.to_json().replace(b'"schema_version":1', b'"schema_version":2')
    with pytest.raises(EipackError, match=r"schema version 2.*pip install -U eipack"):
        Report.from_json(later)


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", '{"schema_version": 1, "rows": 3}'])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(EipackError, match="no report"):
        Report.from_json(text)


def test_a_row_is_a_value() -> None:
    assert evolve(ROW, calls=2) == ROW
    with pytest.raises(AttributeError):
        ROW.calls = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("percent", "expected_ms"), [(1, 1.0), (50, 5.0), (51, 6.0), (90, 9.0), (95, 10.0), (100, 10.0)]
)
def test_a_percentile_is_the_nearest_rank_in_ms(percent: int, expected_ms: float) -> None:
    samples = [count * 1_000_000 for count in (7, 3, 10, 1, 9, 2, 8, 4, 6, 5)]
    assert percentile_ms(samples, percent) == expected_ms


@pytest.mark.parametrize("percent", [50, 90, 95])
def test_one_sample_is_all_of_its_percentiles(percent: int) -> None:
    assert percentile_ms([4_000_000], percent) == 4.0


def test_the_mean_is_in_ms() -> None:
    assert mean_ms([1_000_000, 2_000_000, 6_000_000]) == 3.0
