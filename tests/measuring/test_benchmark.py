from __future__ import annotations

import gc
import shutil
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
from eipack.measuring.race import turn_length
from eipack.torch_backend import TorchRunner

MS = 1_000_000


def test_a_row_has_load_first_call_mean_and_percentiles_of_its_samples(package: Path) -> None:
    (row,) = eipack.benchmark(package, calls=40).rows
    assert (row.target, row.ran_on, row.program) == ("cpu", "cpu", "torchscript")
    assert (row.kind, row.calls, len(row.samples_ns), row.error) == ("torchscript", 40, 40, None)
    assert None not in (row.load_ms, row.first_ms, row.mean_ms)
    assert row.p50_ms == sorted(row.samples_ns)[19] / MS
    assert row.p90_ms == sorted(row.samples_ns)[35] / MS
    assert row.p95_ms == sorted(row.samples_ns)[37] / MS


def test_a_thousand_calls_are_made_unless_told_otherwise(package: Path) -> None:
    assert eipack.benchmark(package).rows[0].calls == 1000


def test_the_check_and_the_warm_up_are_counted_as_discarded(package: Path) -> None:
    assert eipack.benchmark(package, calls=40).rows[0].discarded == 1 + 20


def test_every_program_asked_for_is_a_row_on_every_target(package: Path) -> None:
    report = eipack.benchmark(package, ["cpu"], programs=["torchscript", "exported"], calls=10)
    assert [row.program for row in report.rows] == ["torchscript", "exported"]
    assert [row.calls for row in report.rows] == [10, 10]


def test_rows_take_turns_of_which_the_first_call_is_discarded(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[int] = []
    original = TorchRunner.__call__

    def noted(self: TorchRunner, *inputs: torch.Tensor) -> Any:
        order.append(id(self))
        return original(self, *inputs)

    monkeypatch.setattr(TorchRunner, "__call__", noted)
    report = eipack.benchmark(package, programs=["torchscript", "exported"], calls=20)
    turns = [len(list(group)) for _, group in groupby(order)]
    first_and_check, warm_up, rounds = [2, 2], [20, 20], [6, 12, 12, 12, 6]
    assert turns == [*first_and_check, *warm_up, *rounds]
    assert [row.discarded for row in report.rows] == [1 + 20 + 4] * 2


def test_the_garbage_collector_is_off_during_the_calls_and_on_again_afterwards(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = set()
    original = TorchRunner.__call__

    def noted(self: TorchRunner, *inputs: torch.Tensor) -> Any:
        states.add(gc.isenabled())
        return original(self, *inputs)

    monkeypatch.setattr(TorchRunner, "__call__", noted)
    eipack.benchmark(package, calls=5)
    assert states == {False}
    assert gc.isenabled()


def test_a_target_that_is_not_here_is_a_failed_row_beside_the_others(package: Path) -> None:
    good, bad = eipack.benchmark(package, ["cpu", "cpu+abacus"], calls=5).rows
    assert good.error is None
    assert (bad.target, bad.ran_on, bad.p50_ms, bad.samples_ns) == ("cpu+abacus", None, None, ())
    assert "no backend serves 'cpu+abacus'" in (bad.error or "")


def test_a_program_that_is_not_there_is_a_failed_row(package: Path) -> None:
    _, bad = eipack.benchmark(package, programs=["torchscript", "onnx"], calls=5).rows
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
        eipack.benchmark(package, target, programs=program, calls=5)


def test_a_program_that_answers_otherwise_than_recorded_is_failed_and_not_timed(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TorchRunner.__call__
    calls: list[int] = []

    def wrong(self: TorchRunner, *inputs: torch.Tensor) -> Any:
        calls.append(id(self))
        result = original(self, *inputs)
        return result + 1 if id(self) == calls[0] else result

    monkeypatch.setattr(TorchRunner, "__call__", wrong)
    bad, good = eipack.benchmark(package, programs=["torchscript", "exported"], calls=5).rows
    assert good.calls == 5
    assert (bad.program, bad.calls, bad.p50_ms) == ("torchscript", 0, None)
    assert "is not the recorded one: it differs by 1" in (bad.error or "")
    assert calls.count(calls[0]) == 2


def test_a_wrong_answer_of_the_only_row_is_raised(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TorchRunner, "__call__", lambda self, x: torch.zeros(2, 4))
    with pytest.raises(ParityFailed, match="not the recorded one"):
        eipack.benchmark(package, calls=5)


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
    bad, good = eipack.benchmark(package, programs=["torchscript", "exported"], calls=20).rows
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
        eipack.benchmark(package, calls=5)


def test_the_samples_of_the_package_are_the_inputs(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _inputs_seen(monkeypatch)
    eipack.benchmark(package, calls=5)
    (expected,), _ = eipack.open(package).samples()
    assert all(torch.equal(tensor, expected) for tensor in seen)


@pytest.mark.parametrize("given", ["alone", "in a tuple", "by name"])
def test_own_inputs_are_timed_and_the_samples_still_checked(
    package: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    seen = _inputs_seen(monkeypatch)
    x = torch.full((2, 8), 3.0)
    name = eipack.open(package).signature.inputs[0].name
    inputs = {"alone": x, "in a tuple": (x,), "by name": {name: x}}[given]
    eipack.benchmark(package, calls=5, inputs=inputs)
    assert [torch.equal(tensor, x) for tensor in seen] == [True, False] + [True] * 10


def _inputs_seen(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    original = TorchRunner.__call__

    def noted(self: TorchRunner, *inputs: torch.Tensor) -> Any:
        seen.append(inputs[0])
        return original(self, *inputs)

    monkeypatch.setattr(TorchRunner, "__call__", noted)
    return seen


def test_inputs_that_do_not_fit_are_the_callers_fault(package: Path) -> None:
    with pytest.raises(SignatureMismatch):
        eipack.benchmark(package, calls=5, inputs=(torch.zeros(3, 8),))


def test_progress_counts_the_timed_calls_of_all_rows(package: Path) -> None:
    told: list[tuple[int, int]] = []
    eipack.benchmark(
        package,
        programs=["torchscript", "exported"],
        calls=20,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told[-1] == (40, 40)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_an_open_package_is_measured_and_left_open(package: Path) -> None:
    with eipack.open(package) as opened:
        assert eipack.benchmark(opened, calls=5).rows[0].calls == 5
        assert opened.samples()


def test_a_file_replaced_since_it_was_opened_is_noticed(package: Path, tmp_path: Path) -> None:
    copy = tmp_path / "package.eipack"
    shutil.copy(package, copy)
    with eipack.open(copy) as opened:
        other = eipack.export(torch.nn.ReLU().eval(), (torch.randn(2),), programs=["torchscript"])
        other.save(copy)
        with pytest.raises(PackageChanged, match="another package now"):
            eipack.benchmark(opened, calls=5)


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


@pytest.mark.parametrize(("targets", "calls"), [([], 10), (["cpu"], 0), (["cpu"], -1)])
def test_nothing_to_measure_is_wrong_use(package: Path, targets: list[str], calls: int) -> None:
    with pytest.raises(ValueError, match="at least one target and one call"):
        eipack.benchmark(package, targets, calls=calls)


def test_the_report_says_on_what_and_with_what_it_was_measured(package: Path) -> None:
    found = eipack.benchmark(package, calls=5).environment
    assert found.torch == torch.__version__
    assert found.threads == torch.get_num_threads()
    assert (found.package, found.eipack) == ("small", eipack.__version__)
    assert found.package_digest.startswith("blake3:")
    assert found.machine
    assert found.cores >= 1


def test_sessions_are_closed_when_the_run_ends(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[int] = []
    original = TorchRunner.close

    def noted(self: TorchRunner) -> None:
        closed.append(id(self))
        original(self)

    monkeypatch.setattr(TorchRunner, "close", noted)
    eipack.benchmark(package, programs=["torchscript", "exported"], calls=5)
    assert len(set(closed)) == 2


@pytest.mark.parametrize(
    ("typical_ms", "calls", "turn"),
    [(0.01, 1000, 100), (10, 1000, 25), (10, 100, 10), (10, 20, 5), (500, 1000, 5)],
)
def test_a_turn_is_a_quarter_second_a_tenth_of_the_calls_or_five_calls(
    typical_ms: float, calls: int, turn: int
) -> None:
    assert turn_length([typical_ms * MS], calls) == turn
