"""How many cores there are for this process, and calls that share them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest
import torch
from torch import nn

import eipack
from eipack import threads
from eipack.threads import Gate, usable_cores

PATIENCE_S = 5.0


class TestCores:
    @pytest.fixture(autouse=True)
    def quota(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.delenv("EIPACK_THREADS", raising=False)
        path = tmp_path / "cpu.max"
        monkeypatch.setattr(threads, "_QUOTAS", ((path, None),))
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
        return path

    def test_without_a_quota_the_affinity_counts(self) -> None:
        assert usable_cores() == 8

    @pytest.mark.parametrize(
        ("text", "cores"),
        [
            ("max 100000", 8),
            ("400000 100000", 4),
            ("150000 100000", 2),
            ("50000 100000", 1),
            ("1600000 100000", 8),
            ("nonsense", 8),
            ("", 8),
        ],
    )
    def test_a_quota_of_the_cgroup_counts(self, quota: Path, text: str, cores: int) -> None:
        quota.write_text(text)
        assert usable_cores() == cores

    def test_the_older_cgroups_have_their_quota_in_two_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        quota, period = tmp_path / "quota", tmp_path / "period"
        quota.write_text("300000")
        period.write_text("100000")
        monkeypatch.setattr(threads, "_QUOTAS", ((quota, period),))
        assert usable_cores() == 3
        quota.write_text("-1")
        assert usable_cores() == 8

    def test_the_environment_has_the_last_word(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EIPACK_THREADS", "3")
        assert usable_cores() == 3


class TestGate:
    @pytest.fixture
    def gate(self) -> Gate:
        return Gate(4)

    def enters(self, gate: Gate, count: int) -> tuple[Event, Event, Thread]:
        inside, leave = Event(), Event()

        def work() -> None:
            with gate.pass_(count):
                inside.set()
                leave.wait(PATIENCE_S)

        thread = Thread(target=work, daemon=True)
        thread.start()
        return inside, leave, thread

    def test_calls_that_fit_together_run_together(self, gate: Gate) -> None:
        calls = [self.enters(gate, 2) for _ in range(2)]
        assert all(inside.wait(PATIENCE_S) for inside, _, _ in calls)
        for _, leave, thread in calls:
            leave.set()
            thread.join(PATIENCE_S)

    def test_one_that_does_not_fit_waits(self, gate: Gate) -> None:
        first, leave_first, one = self.enters(gate, 3)
        assert first.wait(PATIENCE_S)
        second, leave_second, other = self.enters(gate, 2)
        assert not second.wait(0.05)
        leave_first.set()
        assert second.wait(PATIENCE_S)
        leave_second.set()
        for thread in (one, other):
            thread.join(PATIENCE_S)

    def test_a_call_that_is_larger_than_all_cores_runs_alone(self, gate: Gate) -> None:
        inside, leave, thread = self.enters(gate, 100)
        assert inside.wait(PATIENCE_S)
        small, leave_small, other = self.enters(gate, 1)
        assert not small.wait(0.05)
        leave.set()
        assert small.wait(PATIENCE_S)
        leave_small.set()
        for one in (thread, other):
            one.join(PATIENCE_S)

    def test_a_call_that_fails_leaves(self, gate: Gate) -> None:
        with pytest.raises(ValueError, match="failed"), gate.pass_(4):
            raise ValueError("failed")
        with gate.pass_(4):
            pass


@pytest.fixture
def session_with(tmp_path: Path) -> Iterator[object]:
    model = nn.Linear(4, 2).eval()
    package = eipack.export(model, inputs=(torch.ones(1, 4),))
    path = package.save(tmp_path / "linear.eipack")
    sessions = []

    def load(**options: object) -> eipack.Session:
        sessions.append(eipack.load(path, "cpu", **options))  # type: ignore[arg-type]
        return sessions[-1]

    yield load
    for session in sessions:
        session.close()


def test_a_session_says_how_many_threads_a_call_takes(session_with: object) -> None:
    assert session_with().info.threads == torch.get_num_threads()  # type: ignore[operator]
    assert session_with(threads=3).info.threads == 3  # type: ignore[operator]


def test_a_sessions_threads_are_its_own_and_the_callers_setting_stays(
    session_with: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    session = session_with(threads=before + 1)  # type: ignore[operator]
    seen: list[int] = []
    original = session._runner._call

    def call(*inputs: torch.Tensor) -> object:
        set_to = torch.set_num_threads
        monkeypatch.setattr(torch, "set_num_threads", lambda n: (seen.append(n), set_to(n)))
        return original(*inputs)

    monkeypatch.setattr(session._runner, "_call", call)
    session(torch.ones(1, 4))
    assert seen == [before + 1, before]
    assert torch.get_num_threads() == before


def test_no_threads_at_all_is_refused(session_with: object) -> None:
    with pytest.raises(ValueError, match="threads is 0; a call has at least one"):
        session_with(threads=0)  # type: ignore[operator]
