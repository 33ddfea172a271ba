from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from attrs import evolve

from eipack.errors import EipackError
from eipack.measuring import (
    Environment,
    Noise,
    Parts,
    Report,
    Resources,
    Row,
    Scenario,
    Settings,
    WarmUp,
)
from eipack.measuring.schema import json_schema
from eipack.statistics.percentiles import mean_ms, percentile_ms

SCHEMA = Path(__file__).parents[2] / "docs" / "reports" / "report.schema.json"

ENVIRONMENT = Environment(
    date="2026-11-01T10:00:00+00:00",
    machine="a processor",
    cores=2,
    memory_bytes=8_000_000_000,
    instance="c5.large",
    system="Linux x86_64",
    python="3.11.9",
    torch="2.13.0",
    threads=2,
    eipack="0.1.0",
    libraries={"eipack-cpu": "0.1.0"},
    package="small",
    package_version=None,
    package_digest="blake3:" + "0" * 64,
    weights_bytes=400,
    input_bytes=64,
)
ROW = Row(
    "cpu",
    "torchscript",
    Scenario("closed-loop", 2, batch=8),
    ran_on="cpu",
    cold_start_ms=900.0,
    warm_up=WarmUp(40, 12.5, settled=True),
    calls=2,
    p50_ms=0.1,
    intervals={"p50_ms": (0.1, None)},
    conservative_ms={"p90_ms": None},
    resources=Resources(cpu_ms=0.2, host_peak_bytes=1_000_000),
    parts=Parts(0.1, 0.0, 0.2),
    samples_ns=(100_000, 250_000),
    began_ns=(0, 110_000),
    turns=(2,),
)
REPORT = Report(
    2,
    "nearest-rank",
    ENVIRONMENT,
    Settings(calls=2, flags={"precision": "float32"}),
    (ROW, Row("cuda:0", error="no such device")),
    Noise("cpu", "torchscript", 1.01, 0.98, 1.04, 0.04),
)


def test_a_report_comes_back_from_json_as_it_was() -> None:
    assert Report.from_json(REPORT.to_json()) == REPORT


def test_text_is_read_like_bytes() -> None:
    assert Report.from_json(REPORT.to_json().decode()) == REPORT


def test_the_json_says_its_version_its_percentiles_and_every_sample() -> None:
    read = json.loads(REPORT.to_json())
    assert (read["schema_version"], read["percentile"]) == (2, "nearest-rank")
    assert read["rows"][0]["samples_ns"] == [100_000, 250_000]
    assert read["environment"]["machine"] == "a processor"


@pytest.mark.parametrize(
    ("version", "remedy"), [(3, "pip install -U eipack"), (1, "measure again with this eipack")]
)
def test_another_schema_is_refused_with_the_remedy(version: int, remedy: str) -> None:
    other = REPORT.to_json().replace(b'"schema_version":2', b'"schema_version":%d' % version)
    with pytest.raises(EipackError, match=rf"schema version {version}.*{remedy}"):
        Report.from_json(other)


def test_a_report_that_is_cut_short_is_refused() -> None:
    with pytest.raises(EipackError, match="no report"):
        Report.from_json(REPORT.to_json()[:-200])


def test_the_published_schema_is_up_to_date() -> None:
    assert json.loads(SCHEMA.read_text()) == json.loads(json.dumps(json_schema())), (
        "run: python -m eipack.measuring.schema > docs/reports/report.schema.json"
    )


def test_reports_follow_the_published_schema_and_others_do_not() -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(REPORT.to_json())
    jsonschema.validate(document, schema)
    document["rows"][0]["samples_ns"] = ["soon"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", '{"schema_version": 2, "rows": 3}'])
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
