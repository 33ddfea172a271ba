"""Every engine is tried, none harms another, and only what is right and quicker wins."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import eipack
from eipack.errors import DeviceNotFound, TargetSyntaxError, UntrustedPackage
from eipack.tuning import NotKept, Record, Row

from .conftest import Tune

pytestmark = pytest.mark.slow

BROKEN = ("crooked", "ending", "crashing", "lacking", "refusing")


@pytest.fixture(scope="module")
def record(tune: Tune, package: Path) -> Record:
    return tune(
        package,
        precisions=("float32", "bfloat16"),
        threads=[1],
        engines=("quick", "rough", *BROKEN),
        budget_s=120,
        options={"quick": {"mode": "any"}},
    )


def row_of(record: Record, target: str, precision: str = "float32") -> Row:
    (row,) = [r for r in record.rows if r.target == target and r.precision == precision]
    return row


def test_the_fastest_of_those_that_are_right_wins(record: Record) -> None:
    fastest = min(record.rows, key=lambda row: row.row_ms)
    assert record.winner == fastest
    assert fastest.target in ("cpu+quick", "cpu+rough")
    quick = row_of(record, "cpu+quick")
    assert quick.verdict == "measured"
    assert quick.row_ms < record.plain.row_ms


def test_an_engine_that_is_wrong_at_some_sizes_is_never_chosen_and_they_are_named(
    record: Record,
) -> None:
    row = row_of(record, "cpu+crooked")
    assert row.verdict == "wrong"
    assert row.p50_ms is None
    assert "output 'output' on fresh inputs at batch=3" in row.reason
    assert "differs by 1 " in row.reason


def test_a_process_that_exits_takes_only_its_own_candidate_down(record: Record) -> None:
    row = row_of(record, "cpu+ending")
    assert (row.verdict, row.reason) == ("failed", "its process exited with 7 (check)")


def test_a_process_that_is_killed_takes_only_its_own_candidate_down(record: Record) -> None:
    row = row_of(record, "cpu+crashing")
    assert row.verdict == "failed"
    assert "was ended by SIGSEGV (open): about to fall over" in row.reason


def test_an_engine_without_a_program_in_the_package_says_what_it_needs(record: Record) -> None:
    assert "runs onnx" in row_of(record, "cpu+lacking").reason


def test_what_an_engine_raises_is_one_line(record: Record) -> None:
    reason = row_of(record, "cpu+refusing").reason
    assert reason.endswith("no operator for that")


def test_plain_pytorch_takes_part_to_the_end(record: Record) -> None:
    assert record.plain.target == "cpu"
    assert record.plain.verdict == "measured"
    assert record.plain.calls >= 20


def test_what_is_clearly_slower_drops_out(record: Record) -> None:
    row = row_of(record, "cpu+rough")
    assert row.verdict == "slower"
    assert row.p50_ms is not None
    assert row.p50_ms > 20


def test_a_lower_precision_has_its_loss_in_the_table(record: Record) -> None:
    loss = row_of(record, "cpu+rough", "bfloat16").loss
    assert loss is not None
    assert 0 < loss < 2e-2
    assert row_of(record, "cpu+quick").loss is None


def test_every_size_of_a_small_range_is_checked(record: Record) -> None:
    assert record.plain.checks >= 9


def test_options_of_an_engine_are_recorded(record: Record) -> None:
    assert row_of(record, "cpu+quick").options == {"mode": "any"}


def test_what_runs_is_recorded(record: Record) -> None:
    assert record.package == "wide"
    assert record.machine.cores >= 1
    assert record.machine.versions["eipack-odd"] == "1.0"
    assert record.machine.versions["torch"]
    assert record.seconds < 120
    assert len(record.plain.samples_ns) == min(record.plain.calls, 500)


def test_an_engine_that_hangs_is_ended_in_time(tune: Tune, fixed_package: Path) -> None:
    record = tune(fixed_package, engines=["hanging"], threads=[1], budget_s=4)
    row = row_of(record, "cpu+hanging")
    assert row.verdict == "failed"
    assert row.reason == "was not loaded within 3 s; raise the budget"
    assert record.winner.plain


def test_throughput_tries_batches_and_reports_rows_a_second(tune: Tune, package: Path) -> None:
    record = tune(package, objective="throughput", engines=["quick"], budget_s=30)
    assert {row.batch for row in record.rows} <= {1, 2, 4, 8}
    assert len({row.batch for row in record.rows}) > 1
    winner = record.winner
    assert winner.p50_ms is not None
    assert winner.rows_per_s == pytest.approx(1e3 * winner.batch / winner.p50_ms)
    assert winner.target == "cpu+quick"


def test_throughput_needs_a_batch(tune: Tune, fixed_package: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no batches to tune for throughput: .*; tune for latency"
    ):
        tune(fixed_package, objective="throughput")


def test_a_record_that_cannot_be_kept_is_told_and_returned(
    tune: Tune, fixed_package: Path, cache: Path
) -> None:
    cache.write_text("in the way")
    with pytest.warns(NotKept, match="cannot write in .*EIPACK_CACHE_DIR"):
        record = tune(fixed_package, engines=["cpu"], threads=[1], budget_s=10)
    assert record.winner.plain


def test_an_untrusted_package_is_not_run(
    tune: Tune, fixed_package: Path, tmp_path: Path, fresh_home: Path
) -> None:
    stranger = shutil.copy(fixed_package, tmp_path)
    with pytest.raises(UntrustedPackage):
        tune(stranger)


def test_a_key_that_is_given_is_trusted_in_every_process(
    tune: Tune, fixed_package: Path, fresh_home: Path, shared_home: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EIPACK_CONFIG_DIR", str(shared_home / "config"))
        with eipack.open(fixed_package) as opened:
            key = opened.check_trust()
    record = tune(fixed_package, trust=key, engines=["cpu"], threads=[1], budget_s=10)
    assert record.winner.plain


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"objective": "speed"}, "objective is 'speed'"),
        ({"budget_s": 0}, "budget_s is 0"),
        ({"precisions": ["float64"]}, "precision is 'float64'"),
        ({"precisions": []}, "precision is nothing"),
        ({"threads": [0]}, "a call has at least one"),
        ({"engines": ["warp"]}, "no engine 'warp' is installed"),
        ({"target": "cpu+quick"}, "name cpu and not cpu.quick"),
    ],
)
def test_what_means_nothing_is_refused(
    tune: Tune, fixed_package: Path, asked: dict[str, object], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        tune(fixed_package, **asked)


def test_a_device_that_is_not_here_is_an_error(tune: Tune, fixed_package: Path) -> None:
    with pytest.raises(DeviceNotFound):
        tune(fixed_package, "toy:7")
    with pytest.raises(TargetSyntaxError):
        tune(fixed_package, "cpu:1")


def test_another_device_is_tuned_like_any(tune: Tune, tmp_path: Path) -> None:
    model = torch.nn.Linear(4, 2).eval()
    exported = eipack.export(model, (torch.randn(2, 4),), target="toy:1", name="toyed")
    record = tune(exported.save(tmp_path / "toyed.eipack"), "toy:1", budget_s=20)
    assert record.target == "toy:1"
    assert {row.kind for row in record.rows} == {"toy", "exported"}
    assert record.winner.target == "toy:1"
