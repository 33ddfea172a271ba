"""`eipack.benchmark` in this process, where a test can see every call."""

from __future__ import annotations

import gc
import random
import shutil
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch

import eipack
from eipack.errors import (
    BackendNotFound,
    DeviceNotFound,
    ExecutionFailed,
    MalformedPackage,
    PackageChanged,
    ParityFailed,
    ProgramNotFound,
    SignatureMismatch,
    TargetSyntaxError,
    UntrustedPackage,
)
from eipack.measuring import Report, Scenario, lane, race, warming
from eipack.torch_backend import TorchRunner

MS = 1_000_000
TWO = ["torchscript", "exported"]


@pytest.fixture(autouse=True)
def _settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ten calls be the warm-up, whatever the machine does meanwhile."""
    monkeypatch.setattr(warming, "settled_after", lambda samples: 0)


def bench(package: Any, targets: Any = "cpu", **asked: Any) -> Report:
    asked = {"calls": 20, "in_process": True, "aa": False, **asked}
    return eipack.benchmark(package, targets, **asked)


def watched(
    monkeypatch: pytest.MonkeyPatch,
    see: Callable[[TorchRunner, tuple[torch.Tensor, ...]], Any],
) -> None:
    """Have every call of PyTorch's runner seen before it is made."""
    original = TorchRunner.__call__

    def noted(self: TorchRunner, *inputs: torch.Tensor) -> Any:
        see(self, inputs)
        return original(self, *inputs)

    monkeypatch.setattr(TorchRunner, "__call__", noted)


def test_a_row_has_load_first_call_mean_and_percentiles_of_its_samples(package: Path) -> None:
    (row,) = bench(package, calls=40).rows
    assert (row.target, row.ran_on, row.program) == ("cpu", "cpu", "torchscript")
    assert (row.kind, row.calls, len(row.samples_ns), row.error) == ("torchscript", 40, 40, None)
    assert None not in (row.load_ms, row.first_ms, row.mean_ms, row.device)
    assert row.p50_ms == sorted(row.samples_ns)[19] / MS
    assert row.p90_ms == sorted(row.samples_ns)[35] / MS
    assert row.p95_ms == sorted(row.samples_ns)[37] / MS
    assert row.p99_ms == max(row.samples_ns) / MS


def test_a_row_says_how_sure_its_figures_are_and_what_else_calls_took(package: Path) -> None:
    (row,) = bench(package, calls=80).rows
    assert set(row.intervals) == {"mean_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms"}
    low, high = row.intervals["p50_ms"]
    assert high is not None
    assert low <= (row.p50_ms or 0) <= high
    assert row.conservative_ms["p90_ms"] is not None
    assert row.conservative_ms["p99_ms"] is None
    assert (row.resources.cpu_ms or 0) > 0
    assert (row.resources.host_peak_bytes or 0) > 10_000_000
    assert row.cold_start_ms is None


def test_a_thousand_calls_are_made_unless_told_otherwise(package: Path) -> None:
    assert eipack.benchmark(package, in_process=True).rows[0].calls == 1000


def test_one_call_is_enough_for_a_report_that_says_what_it_cannot(package: Path) -> None:
    report = bench(package, programs=TWO, calls=1, aa=True)
    assert report.noise is None
    for row in report.rows:
        assert row.p99_ms == row.samples_ns[0] / MS
        assert row.intervals["p50_ms"] == (0.0, None)
        assert row.stable is None
    assert Report.from_json(report.to_json()) == report


def test_the_check_and_the_warm_up_are_counted_as_discarded(package: Path) -> None:
    (row,) = bench(package, calls=40).rows
    assert row.warm_up is not None
    assert (row.warm_up.calls, row.warm_up.settled) == (10, True)
    assert row.discarded == 1 + 10


def test_every_program_asked_for_is_a_row_on_every_target(package: Path) -> None:
    report = bench(package, ["cpu"], programs=TWO, calls=10)
    assert [row.program for row in report.rows] == TWO
    assert [row.calls for row in report.rows] == [10, 10]


def test_every_scenario_is_a_row_of_every_program_and_one_caller_is_always_there(
    package: Path,
) -> None:
    report = bench(package, concurrency=(1, 2), rate_per_s=(2000,), offline=True)
    assert [row.scenario for row in report.rows] == [
        Scenario(),
        Scenario("closed-loop", 2),
        Scenario("open-loop", rate_per_s=2000),
        Scenario("offline"),
    ]
    assert [(row.calls, sum(row.turns), row.error) for row in report.rows] == [(20, 20, None)] * 4


def test_batches_have_so_many_rows_and_throughput_counts_them(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    watched(monkeypatch, lambda _, inputs: seen.append(inputs[0].shape[0]))
    report = bench(package, batch=(1, 8), calls=10)
    assert [row.scenario.batch for row in report.rows] == [1, 8]
    for row in report.rows:
        assert row.rows_per_s == pytest.approx((row.scenario.batch or 0) * (row.calls_per_s or 0))
    assert {1, 2, 8} == set(seen)


def test_a_batch_that_the_package_does_not_take_is_refused_before_anything_runs(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched(monkeypatch, lambda *_: pytest.fail("a call was made"))
    with pytest.raises(SignatureMismatch, match="9 rows"):
        bench(package, batch=(9,))


def test_rows_take_turns_which_begin_with_calls_that_do_not_count(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[int] = []
    watched(monkeypatch, lambda runner, _: order.append(id(runner)))
    monkeypatch.setattr(lane, "lead_of", lambda *_, shared: int(shared))
    report = bench(package, programs=TWO)
    turns = [len(list(group)) for _, group in groupby(order)]
    first_and_check, warm_up, rounds = [2, 2], [10, 10], [6, 12, 12, 12, 6]
    assert turns == [*first_and_check, *warm_up, *rounds]
    assert [row.discarded for row in report.rows] == [1 + 10 + 4] * 2
    assert [row.turns for row in report.rows] == [(5, 5, 5, 5)] * 2


def test_calls_begin_in_order_since_the_runs_start(package: Path) -> None:
    for row in bench(package, programs=TWO, concurrency=(2,)).rows:
        assert len(row.began_ns) == len(row.samples_ns)
        ends = [0]
        for turn in row.turns:
            ends.append(ends[-1] + turn)
        begins = [row.began_ns[end] for end in ends[:-1]]
        assert begins == sorted(begins)
        assert begins[0] > 0


def test_a_duration_stands_in_place_of_the_calls(package: Path) -> None:
    report = bench(package, duration_s=0.3)
    (row,) = report.rows
    spent_s = sum(row.samples_ns) / 1e9
    assert 0.1 < spent_s < 3
    assert (report.settings.calls, report.settings.duration_s) == (None, 0.3)
    assert len(row.turns) == 10


def test_a_run_ends_before_its_time_when_every_row_is_stable(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def known(samples_ns: Sequence[int], turns: Sequence[int]) -> bool:
        asked.append(len(turns))
        return len(turns) >= 2

    monkeypatch.setattr(race, "is_known", known)
    report = bench(package, programs=TWO, until_stable=True, duration_s=20)
    assert [len(row.turns) for row in report.rows] == [2, 2]
    assert asked[-2:] == [2, 2]
    assert report.settings.until_stable


@pytest.mark.parametrize(("spread", "known"), [(0.01, True), (9.0, False)])
def test_a_row_is_stable_when_the_interval_of_its_p90_is_narrow(spread: float, known: bool) -> None:
    drawn = random.Random(0)
    samples = [round(MS * (1 + spread * drawn.expovariate(1))) for _ in range(400)]
    assert race.is_known(samples, [40] * 10) is known


def test_an_a_a_run_measures_the_first_row_twice_and_says_how_much_that_differs(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners = set()
    watched(monkeypatch, lambda runner, _: runners.add(id(runner)))
    report = bench(package, programs=TWO, calls=60, aa=None)
    assert len(runners) == 3
    assert len(report.rows) == 2
    noise = report.noise
    assert noise is not None
    assert (noise.target, noise.program) == ("cpu", "torchscript")
    assert noise.low <= noise.ratio <= noise.high
    assert noise.floor == max(abs(noise.low - 1), abs(noise.high - 1))


def test_one_row_alone_has_no_a_a_run_unless_it_is_asked_for(package: Path) -> None:
    assert bench(package, aa=None).noise is None
    assert bench(package, aa=True, calls=60).noise is not None


def test_the_garbage_collector_is_off_during_the_calls_and_on_again_afterwards(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = set()
    watched(monkeypatch, lambda *_: states.add(gc.isenabled()))
    bench(package, calls=5)
    assert states == {False}
    assert gc.isenabled()


def test_a_target_that_is_not_here_is_a_failed_row_beside_the_others(package: Path) -> None:
    good, bad = bench(package, ["cpu", "cpu+abacus"]).rows
    assert good.error is None
    assert (bad.target, bad.ran_on, bad.p50_ms, bad.samples_ns) == ("cpu+abacus", None, None, ())
    assert "no backend serves 'cpu+abacus'" in (bad.error or "")
    assert not bad.wrong


def test_a_program_that_is_not_there_is_a_failed_row(package: Path) -> None:
    _, bad = bench(package, programs=["torchscript", "onnx"]).rows
    assert bad.program == "onnx"
    assert "has no program 'onnx'" in (bad.error or "")


@pytest.mark.parametrize(
    ("target", "program", "error"),
    [
        ("cpu+abacus", None, BackendNotFound),
        ("cuda:99", None, DeviceNotFound),
        ("cpu", "onnx", ProgramNotFound),
    ],
)
def test_when_every_row_fails_the_first_reason_is_raised(
    package: Path, target: str, program: str | None, error: type[Exception]
) -> None:
    with pytest.raises(error):
        bench(package, target, programs=program)


def test_a_program_that_answers_otherwise_than_recorded_is_wrong_and_not_timed(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TorchRunner.__call__
    calls: list[int] = []

    def wrong(self: TorchRunner, *inputs: torch.Tensor) -> Any:
        calls.append(id(self))
        result = original(self, *inputs)
        return result + 1 if id(self) == calls[0] else result

    monkeypatch.setattr(TorchRunner, "__call__", wrong)
    bad, good = bench(package, programs=TWO).rows
    assert good.calls == 20
    assert not good.wrong
    assert (bad.program, bad.calls, bad.p50_ms, bad.wrong) == ("torchscript", 0, None, True)
    assert "is not the recorded one: it differs by 1" in (bad.error or "")
    assert calls.count(calls[0]) == 2


def test_a_wrong_answer_of_the_only_row_is_raised(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TorchRunner, "__call__", lambda self, x: torch.zeros(2, 4))
    with pytest.raises(ParityFailed, match="not the recorded one"):
        bench(package)


@pytest.mark.parametrize("failing_call", [1, 2, 5, 30])
def test_a_program_that_fails_at_any_call_ends_its_own_row_alone(
    package: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    original = TorchRunner.__call__
    calls: list[int] = []

    def failing(self: TorchRunner, *inputs: torch.Tensor) -> Any:
        calls.append(id(self))
        if id(self) == calls[0] and calls.count(id(self)) == failing_call:
            raise RuntimeError("out of luck")
        return original(self, *inputs)

    monkeypatch.setattr(TorchRunner, "__call__", failing)
    bad, good = bench(package, programs=TWO).rows
    assert "out of luck" in (bad.error or "")
    assert (bad.samples_ns, bad.p50_ms) == ((), None)
    assert good.calls == len(good.samples_ns) == 20


def test_a_failure_of_the_only_row_is_raised(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: TorchRunner, *inputs: torch.Tensor) -> Any:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(TorchRunner, "__call__", failing)
    with pytest.raises(ExecutionFailed, match="out of luck"):
        bench(package)


def test_the_samples_of_the_package_are_the_inputs(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    watched(monkeypatch, lambda _, inputs: seen.append(inputs[0]))
    bench(package)
    (expected,), _ = eipack.open(package).samples()
    assert all(torch.equal(tensor, expected) for tensor in seen)


@pytest.mark.parametrize("given", ["alone", "in a tuple", "by name"])
def test_own_inputs_are_timed_and_the_samples_still_checked(
    package: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    seen: list[torch.Tensor] = []
    watched(monkeypatch, lambda _, inputs: seen.append(inputs[0]))
    x = torch.full((3, 8), 3.0)
    name = eipack.open(package).signature.inputs[0].name
    inputs = {"alone": x, "in a tuple": (x,), "by name": {name: x}}[given]
    report = bench(package, inputs=inputs)
    assert [torch.equal(tensor, x) for tensor in seen] == [True, False] + [True] * 30
    assert report.environment.input_bytes == 3 * 8 * 4


def test_inputs_that_do_not_fit_are_the_callers_fault(package: Path) -> None:
    with pytest.raises(SignatureMismatch):
        bench(package, inputs=(torch.zeros(9, 8),))


def test_progress_counts_the_timed_calls_of_all_rows(package: Path) -> None:
    told: list[tuple[int, int]] = []
    bench(package, programs=TWO, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (40, 40)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_progress_of_a_duration_is_in_ms(package: Path) -> None:
    told: list[tuple[int, int]] = []
    bench(package, duration_s=0.2, progress=lambda *one: told.append(one))
    assert told[-1] == (200, 200)


def test_an_open_package_is_measured_and_left_open(package: Path) -> None:
    with eipack.open(package) as opened:
        assert bench(opened).rows[0].calls == 20
        assert opened.samples()


def test_a_file_replaced_since_it_was_opened_is_noticed(package: Path, tmp_path: Path) -> None:
    copy = tmp_path / "package.eipack"
    shutil.copy(package, copy)
    with eipack.open(copy) as opened:
        other = eipack.export(torch.nn.ReLU().eval(), (torch.randn(2),), programs=["torchscript"])
        other.save(copy)
        with pytest.raises(PackageChanged, match="another package now"):
            bench(opened)


def test_a_package_of_a_stranger_is_refused(package: Path, fresh_home: Path) -> None:
    with pytest.raises(UntrustedPackage):
        eipack.benchmark(package, calls=5)


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.eipack"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(MalformedPackage):
        eipack.benchmark(path)


def test_a_target_that_cannot_be_read_is_wrong_use(package: Path) -> None:
    with pytest.raises(TargetSyntaxError):
        eipack.benchmark(package, ["cpu", "cpu:1"], calls=5)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"targets": []}, "there is no target"),
        ({"calls": 0}, "calls is 0"),
        ({"calls": -1}, "calls is -1"),
        ({"duration_s": 0.0}, "duration_s is 0"),
        ({"concurrency": (0,)}, "concurrency is 0"),
        ({"rate_per_s": (-2,)}, "rate_per_s is -2"),
        ({"batch": (0,)}, "batch is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_what_means_nothing_is_wrong_use(package: Path, asked: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        eipack.benchmark(package, **asked)


def test_the_report_says_on_what_and_with_what_it_was_measured(package: Path) -> None:
    report = bench(package, instance="c5.large", seed=3)
    found = report.environment
    assert found.torch == torch.__version__
    assert found.threads == torch.get_num_threads()
    assert (found.package, found.eipack) == ("small", eipack.__version__)
    assert found.package_digest.startswith("blake3:")
    assert found.machine
    assert found.cores >= 1
    assert found.instance == "c5.large"
    assert set(found.libraries) == {"eipack-cpu", "torch"}
    assert found.weights_bytes >= (8 * 8 + 8 + 8 * 4 + 4) * 4
    assert found.input_bytes == 2 * 8 * 4
    assert (report.settings.calls, report.settings.seed) == (20, 3)
    assert report.settings.in_process


def test_sessions_are_closed_when_the_run_ends(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[int] = []
    original = TorchRunner.close

    def noted(self: TorchRunner) -> None:
        closed.append(id(self))
        original(self)

    monkeypatch.setattr(TorchRunner, "close", noted)
    bench(package, programs=TWO)
    assert len(set(closed)) == 2
