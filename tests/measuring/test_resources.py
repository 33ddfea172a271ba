from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path
from threading import Thread
from time import process_time, sleep
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from eipack.measuring import resources, resources_device
from eipack.measuring.resources import Meter, peak_bytes, resident_bytes
from eipack.measuring.resources_device import Gpu, gpu_of
from eipack.target import Target

CPU = Target("cpu")
MB = 1 << 20


def work(seconds: float) -> None:
    end = process_time() + seconds
    while process_time() < end:
        sum(range(1000))


def touch(size: int) -> None:
    """Use memory and give it back at once."""
    with mmap.mmap(-1, size) as memory:
        for offset in range(0, size, mmap.PAGESIZE):
            memory[offset] = 1


def turn(meter: Meter, calls: int, *acts: Any) -> None:
    meter.start()
    for act, *arguments in acts:
        act(*arguments)
    meter.stop(calls)


def test_processor_time_is_shared_out_among_the_calls() -> None:
    with Meter(CPU) as meter:
        turn(meter, 10, (work, 0.1))
    assert meter.resources().cpu_ms == pytest.approx(10, rel=0.3)


def test_waiting_takes_no_processor_time() -> None:
    with Meter(CPU) as meter:
        turn(meter, 1, (sleep, 0.2))
    assert (meter.resources().cpu_ms or 0) < 100


def test_the_time_of_other_threads_is_the_calls_too() -> None:
    def elsewhere() -> None:
        thread = Thread(target=work, args=(0.1,))
        thread.start()
        thread.join()

    with Meter(CPU) as meter:
        turn(meter, 1, (elsewhere,))
    assert (meter.resources().cpu_ms or 0) > 90


def test_only_turns_with_calls_count_as_processor_time() -> None:
    with Meter(CPU) as meter:
        turn(meter, 0, (work, 0.2))
        work(0.2)
        turn(meter, 1, (work, 0.05))
    assert (meter.resources().cpu_ms or 0) < 150


def test_the_peak_holds_memory_that_was_given_back() -> None:
    with Meter(CPU) as meter:
        turn(meter, 0)
        before = meter.resources()
        turn(meter, 1, (touch, 64 * MB))
        after = meter.resources()
    assert (after.host_peak_bytes or 0) - (before.host_peak_bytes or 0) > 48 * MB
    assert (after.host_bytes or 0) > 48 * MB


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="no peak to reset")
def test_what_is_used_between_the_turns_is_not_the_calls() -> None:
    with Meter(CPU) as meter:
        turn(meter, 1)
        touch(64 * MB)
        turn(meter, 1)
    assert (meter.resources().host_bytes or 0) < 48 * MB


def test_memory_is_in_bytes() -> None:
    now = resident_bytes()
    assert now is not None
    assert 10 * MB < now <= peak_bytes()


def test_without_proc_the_peak_is_the_processes_and_nothing_is_known_to_be_added(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(resources, "_STATUS", tmp_path / "missing")
    monkeypatch.setattr(resources, "_CLEAR", tmp_path / "missing" / "too")
    with Meter(CPU) as meter:
        turn(meter, 1)
    found = meter.resources()
    assert (found.host_peak_bytes or 0) > 10 * MB
    assert found.host_bytes is None


def test_a_status_without_the_figures_is_as_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\n")
    monkeypatch.setattr(resources, "_STATUS", tmp_path / "status")
    assert resident_bytes() is None


def test_nothing_was_used_before_the_first_turn() -> None:
    with Meter(CPU) as meter:
        assert meter.resources() == resources.Resources()


def test_the_processor_and_an_accelerator_elsewhere_have_no_gpu_here() -> None:
    assert gpu_of(CPU) is None
    assert gpu_of(Target("eia", ordinal=0)) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_gpu_that_is_not_there_is_no_error() -> None:
    with Meter(Target("cuda", ordinal=0)) as meter:
        turn(meter, 1)
    assert meter.resources().device_peak_bytes is None


def test_nvidias_library_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert resources_device._nvml() is None


class Denied(Exception):
    """What the library raises for anything it does not tell."""


class Library(ModuleType):
    """NVIDIA's library, on a machine with one GPU that this process and another share."""

    NVMLError = Denied

    def __init__(self, *, shares: bool = True, memory: bool = True) -> None:
        super().__init__("pynvml")
        self.open = 0
        self.asked = 0
        self._shares, self._memory = shares, memory

    def nvmlInit(self) -> None:  # noqa: N802
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        if index != 3:
            raise Denied
        return "a GPU"

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:  # noqa: N802
        self.asked += 1
        if not self._shares:
            raise Denied
        return SimpleNamespace(gpu=20 if self.asked % 2 else 60)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> Any:  # noqa: N802
        if not self._memory:
            raise Denied
        own = SimpleNamespace(pid=os.getpid(), usedGpuMemory=700 * MB)
        return [SimpleNamespace(pid=1, usedGpuMemory=9000 * MB), own]


@pytest.fixture
def allocated(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Stand in for torch's account of GPU 0, which a machine without one does not keep."""
    account = {"now": 0}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: account["now"])
    return account


def gpu_turn(gpu: Gpu, *, busy: bool = True) -> None:
    gpu.start()
    sleep(0.18)
    gpu.stop(busy=busy)


def test_the_use_of_a_gpu_is_the_mean_while_calls_are_made(allocated: dict[str, int]) -> None:
    with Gpu(0, Library()) as gpu:
        gpu_turn(gpu, busy=False)
        assert gpu.utilisation is None
        gpu_turn(gpu)
        gpu_turn(gpu)
    assert gpu.utilisation == pytest.approx(0.4, abs=0.15)


def test_torchs_own_account_of_gpu_memory_goes_first(allocated: dict[str, int]) -> None:
    with Gpu(0, Library()) as gpu:
        for allocated["now"] in (50 * MB, 30 * MB):
            gpu_turn(gpu)
    assert gpu.peak_bytes == 50 * MB


def test_an_engine_that_allocates_by_itself_is_seen_by_its_process(
    allocated: dict[str, int],
) -> None:
    with Gpu(0, Library()) as gpu:
        gpu_turn(gpu)
    assert gpu.peak_bytes == 700 * MB


def test_what_a_gpu_does_not_tell_is_none_and_is_asked_for_once(
    allocated: dict[str, int],
) -> None:
    library = Library(shares=False, memory=False)
    with Gpu(0, library) as gpu:
        gpu_turn(gpu)
    assert library.asked == 1
    assert gpu.utilisation is None
    assert gpu.peak_bytes is None


def test_a_gpu_that_the_library_does_not_know_is_not_asked(allocated: dict[str, int]) -> None:
    library = Library()
    with Gpu(1, library) as gpu:
        gpu_turn(gpu)
    assert not library.asked
    assert gpu.utilisation is None


def test_measuring_does_not_set_cuda_up(
    allocated: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> int:
        raise AssertionError

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", refuse)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", refuse)
    with Gpu(0, Library()) as gpu:
        gpu_turn(gpu)
    assert gpu.peak_bytes == 700 * MB


def test_the_library_is_let_go_even_in_the_middle_of_a_turn(
    allocated: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library()
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with Meter(Target("cuda", ordinal=0)) as meter:
        meter.start()
        assert library.open == 1
    assert library.open == 0


@pytest.mark.cuda
def test_a_real_gpu_tells_what_tensors_took() -> None:
    with Meter(Target("cuda", ordinal=0)) as meter:
        meter.start()
        kept = torch.ones(32 * MB, dtype=torch.uint8, device="cuda:0")
        for _ in range(200):
            kept = kept + 1
        torch.cuda.synchronize()
        sleep(0.1)
        meter.stop(200)
    assert (meter.resources().device_peak_bytes or 0) >= 64 * MB
