from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from eipack.errors import EipackError, PackageIOError
from eipack.measuring.changes import JUDGED, compare
from eipack.measuring.environment import Environment
from eipack.measuring.report import Noise, Report, Resources, Row, Settings
from eipack.measuring.scenario import Scenario

ROOT = Path(__file__).parents[2]
ENVIRONMENT = Environment(
    date="2026-11-01T10:00:00+00:00",
    machine="a processor",
    cores=2,
    memory_bytes=8_000_000_000,
    instance=None,
    system="Linux x86_64",
    python="3.11.9",
    torch="2.13.0",
    threads=2,
    eipack="0.1.0",
    libraries={"openvino": "2026.1"},
    package="small",
    package_version=None,
    package_digest="blake3:" + "0" * 64,
    weights_bytes=1000,
    input_bytes=10,
)
NOISE = Noise("cpu", "torchscript-trace", 1.0, 0.999, 1.001, 0.001)


@pytest.fixture(scope="session")
def simulations() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        from benchmarks import statistics

        yield statistics


def row(seed: int = 0, scale: float = 1.0, calls: int = 1000, **changes: Any) -> Row:
    generator = np.random.default_rng(seed)
    samples = (scale * 1e6 * generator.lognormal(0, 0.05, calls)).astype(int).tolist()
    made = Row(
        "cpu",
        "torchscript-trace",
        kind="torchscript",
        method="trace",
        samples_ns=tuple(samples),
        calls=calls,
        stable=True,
        threads=2,
    )
    return evolve(made, **changes)


def report(*rows: Row, noise: Noise | None = NOISE, **environment: Any) -> Report:
    where = evolve(ENVIRONMENT, **environment)
    return Report(2, "nearest-rank", where, Settings(calls=1000), rows, noise)


def verdicts(*pair: Report, **settings: Any) -> dict[str, str]:
    (only,) = compare(*pair, **settings).rows
    return {figure.figure: figure.verdict for figure in only.figures}


def test_equal_rows_are_the_same() -> None:
    assert verdicts(report(row(0)), report(row(1))) == dict.fromkeys(JUDGED, "same")


def test_a_slower_row_is_slower_and_the_other_way_round_faster() -> None:
    one, other = report(row(0)), report(row(1, 1.1))
    assert verdicts(one, other) == dict.fromkeys(JUDGED, "slower")
    assert verdicts(other, one) == dict.fromkeys(JUDGED, "faster")


def test_a_change_is_a_ratio_with_an_interval_and_both_figures() -> None:
    (found,) = compare(report(row(0)), report(row(0, 1.1)), figures=["p90_ms"]).rows[0].figures
    assert found.before == sorted(row(0).samples_ns)[899] / 1e6
    assert found.ratio == pytest.approx(found.after / found.before) == pytest.approx(1.1, rel=1e-5)
    assert 1.08 < found.low < 1.1 < (found.high or 0) < 1.12


def test_a_sure_change_below_the_noise_floor_is_none() -> None:
    noisy = evolve(NOISE, floor=0.15)
    assert verdicts(report(row(0)), report(row(1, 1.1), noise=noisy))["p50_ms"] == "same"
    assert verdicts(report(row(0), noise=noisy), report(row(1, 1.1)))["p50_ms"] == "same"
    assert verdicts(report(row(0)), report(row(1, 1.1)))["p50_ms"] == "slower"


def test_a_change_of_two_percent_is_noise_whatever_the_runs_say() -> None:
    one, other = report(row(0, calls=20_000)), report(row(0, 1.02, calls=20_000))
    assert compare(one, other).rows[0].figures[0].low > 1
    assert verdicts(one, other)["p50_ms"] == "same"


def test_a_regression_counts_if_it_exceeds_what_is_allowed_with_confidence() -> None:
    changes = compare(report(row(0)), report(row(1, 1.08)))
    assert len(changes.slower()) == len(changes.slower(0.05)) == 3
    assert changes.slower(0.08) == ()


@pytest.mark.parametrize("settings", [{"level": 0.005}, {"level": 0.01, "rows": 4}])
def test_pairs_of_equal_reports_are_hardly_ever_said_to_differ(
    simulations: ModuleType, settings: dict[str, Any]
) -> None:
    found = simulations.compared(40, **settings)
    assert sum(map(simulations.says_changed, found)) <= 2


@pytest.mark.parametrize("level", [0.005, 0.01])
def test_a_slowdown_of_five_percent_is_found(simulations: ModuleType, level: float) -> None:
    found = simulations.compared(40, slower=1.05, level=level)
    assert sum(bool(changes.slower()) for changes in found) >= 36


def test_rows_are_matched_by_target_program_scenario_and_precision() -> None:
    rows = [
        row(0),
        row(1, target="cpu+openvino"),
        row(2, method="script", program="torchscript-script"),
        row(3, scenario=Scenario("closed-loop", concurrency=2)),
        row(4, precision="bfloat16"),
    ]
    shuffled = [evolve(one, samples_ns=one.samples_ns[::-1]) for one in rows[::-1]]
    changes = compare(report(*rows), report(*shuffled))
    assert [one.row for one in changes.rows] == [
        "cpu, torchscript-trace",
        "cpu+openvino, torchscript-trace",
        "cpu, torchscript-script",
        "cpu, torchscript-trace, closed-loop x2",
        "cpu, torchscript-trace, bfloat16",
    ]
    assert {figure.ratio for one in changes.rows for figure in one.figures} == {1.0}


def test_rows_that_only_one_report_has_are_named() -> None:
    one, other = row(1, target="cuda:0"), row(2, target="eia:0")
    changes = compare(report(row(0), one), report(other, row(0)))
    assert changes.only_before == ("cuda:0, torchscript-trace",)
    assert changes.only_after == ("eia:0, torchscript-trace",)


def test_failed_rows_are_named_and_those_that_failed_newly_too() -> None:
    old, new = Row("cuda:0", error="no such device"), Row("eia:0", "trace", error="it is gone")
    changes = compare(report(row(0), old), report(row(1), old, new))
    assert changes.failed_before == ("cuda:0: no such device",)
    assert changes.failed_after == ("cuda:0: no such device", "eia:0, trace: it is gone")
    assert changes.newly_failed == ("eia:0, trace",)


def test_what_a_run_has_once_is_shown_beside() -> None:
    peak = Resources(host_peak_bytes=1000)
    changes = compare(report(row(0, cold_start_ms=900.0, resources=peak)), report(row(1)))
    beside = {one.figure: (one.before, one.after) for one in changes.rows[0].beside}
    assert beside["cold_start_ms"] == (900, None)
    assert beside["host_peak_bytes"] == (1000, None)


def test_other_machines_and_versions_are_warned_of() -> None:
    other = report(row(1), torch="2.14.0", cores=4, libraries={"openvino": "2026.2", "tvm": "1"})
    assert compare(report(row(0)), other).warnings == (
        "cores differs: 2, then 4",
        "torch differs: 2.13.0, then 2.14.0",
        "openvino differs: 2026.1, then 2026.2",
        "tvm differs: none, then 1",
    )


def test_drifting_rows_and_other_numbers_of_threads_are_warned_of() -> None:
    found = compare(report(row(0)), report(row(1, stable=False, threads=1))).warnings
    assert found == (
        "cpu, torchscript-trace drifted in the second report: a change may be the drift",
        "cpu, torchscript-trace: threads differ: 2, then 1",
    )


def test_a_report_without_an_aa_run_is_warned_of() -> None:
    (warning,) = compare(report(row(0)), report(row(1), noise=None)).warnings
    assert warning == "the second report has no A/A run; changes below 3% are noise"


def test_a_noisy_aa_run_is_warned_of() -> None:
    (warning,) = compare(report(row(0), noise=evolve(NOISE, floor=0.4)), report(row(1))).warnings
    assert warning.startswith("the A/A run of the first report differs by up to 40%, and smaller")


def test_reports_of_different_packages_are_compared_only_on_request() -> None:
    one, other = report(row(0)), report(row(1), package_digest="blake3:" + "1" * 64)
    with pytest.raises(EipackError, match=r"different packages.*--different-packages"):
        compare(one, other)
    (warning,) = compare(one, other, different_packages=True).warnings
    assert warning == "the packages differ: small 000000000000, then small 111111111111"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(0, target="cuda:0")], "no row in common"),
        ([], "no row in common"),
        ([Row("cpu", error="it broke")], "no row in common"),
        ([row(0, calls=1)], "too few calls to be compared"),
        ([row(0, calls=0)], "positive latencies on both sides"),
        ([row(0, samples_ns=(1, 0, 2))], "positive latencies on both sides"),
        ([row(0, turns=(3, 4))], "turns of 7 calls were given for 1000 samples"),
    ],
    ids=["another target", "no rows", "failed", "one call", "no calls", "zeros", "wrong turns"],
)
def test_what_cannot_be_compared_is_an_error(rows: list[Row], said: str) -> None:
    with pytest.raises(EipackError, match=said):
        compare(report(row(0)), report(*rows))


def test_a_figure_with_too_few_calls_is_insufficient() -> None:
    few = report(row(0, calls=50))
    found = verdicts(few, report(row(1)), figures=["p50_ms", "p99_ms"])
    assert found == {"p50_ms": "same", "p99_ms": "insufficient"}


@pytest.mark.parametrize("figures", [[], ["load_ms"], ["p90"]])
def test_only_latencies_can_be_judged(figures: list[str]) -> None:
    with pytest.raises(ValueError, match="figures are some of mean_ms, p50_ms"):
        compare(report(row(0)), report(row(1)), figures=figures)


def test_reports_are_read_from_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(report(row(0)).to_json())
    assert compare(path, str(path)).rows == compare(report(row(0)), report(row(0))).rows


def test_a_file_that_is_no_report_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(PackageIOError, match=r"cannot read .*a\.json: there is no such file"):
        compare(path, path)
    path.write_bytes(report(row(0)).to_json()[:100])
    with pytest.raises(EipackError, match=r"a\.json: this is no report"):
        compare(path, path)
