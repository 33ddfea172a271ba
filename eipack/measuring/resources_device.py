"""What a process takes of an NVIDIA GPU, by torch's own account and by NVIDIA's library (NVML)."""

from __future__ import annotations

import os
from statistics import fmean
from threading import Event, Thread
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from eipack.target import Target

_EVERY_S: Final = 0.05


class Gpu:
    """One GPU; NVML is asked every 50 ms while a turn lasts, torch at its end.

    `utilisation` is the mean share of time in which anything ran on the GPU; NVML means the last
    sixth of a second to second by it. `peak_bytes` is what torch had allocated at most; for engines
    that allocate by themselves, the most that NVML saw this process use.
    """

    def __init__(self, ordinal: int, nvml: ModuleType | None) -> None:
        self._ordinal = ordinal
        self._nvml = nvml
        self._handle: Any = None if nvml is None else _handle(nvml, ordinal)
        self._used: list[int] = []
        self._shares: list[float] = []
        self._kept: list[float] = []
        self._allocated = 0
        self._thread: Thread | None = None
        self._stopped = Event()

    @property
    def peak_bytes(self) -> int | None:
        """The most memory that the turns took of the device."""
        return self._allocated or max(self._used, default=None)

    @property
    def utilisation(self) -> float | None:
        """The mean share of time in which the GPU was busy, 0 to 1, during turns with calls."""
        return fmean(self._kept) if self._kept else None

    def start(self) -> None:
        """Begin a turn."""
        import torch

        # Measuring must not be what sets CUDA up, which takes time and memory.
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.reset_peak_memory_stats(self._ordinal)
        if self._handle is None:
            return
        self._stopped.clear()
        self._shares = []
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self, *, busy: bool) -> None:
        """End a turn; its utilisation counts if calls were made in it."""
        import torch

        self._rest()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            self._allocated = max(self._allocated, torch.cuda.max_memory_allocated(self._ordinal))
        if busy:
            self._kept += self._shares

    def _rest(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopped.set()
            thread.join()

    def _watch(self) -> None:
        """Read until the turn is over; what the GPU does not tell is not asked for again."""
        readers = [self._read_share, self._read_used]
        while not self._stopped.wait(_EVERY_S):
            readers = [read for read in readers if read()]

    def _read_share(self) -> bool:
        nvml: Any = self._nvml
        try:
            self._shares.append(nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100)
        except nvml.NVMLError:
            return False
        return True

    def _read_used(self) -> bool:
        nvml: Any = self._nvml
        try:
            found = nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except nvml.NVMLError:
            return False
        own = os.getpid()
        self._used += [one.usedGpuMemory for one in found if one.pid == own and one.usedGpuMemory]
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let NVML go."""
        self._rest()
        if self._nvml is not None:
            self._nvml.nvmlShutdown()


def gpu_of(target: Target) -> Gpu | None:
    """Return the GPU that a target runs on, None where it runs on none of this machine's."""
    if target.device != "cuda":
        return None
    import torch

    return Gpu(target.ordinal or 0, _nvml()) if torch.cuda.is_available() else None


def _nvml() -> ModuleType | None:
    """Start NVML; None where it or its driver is missing."""
    try:
        import pynvml  # type: ignore[import-untyped]
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    module: ModuleType = pynvml
    return module


def _handle(nvml: Any, ordinal: int) -> Any:
    """Find the GPU that torch calls so, without setting CUDA up; None where NVML has it not."""
    import torch

    try:
        return nvml.nvmlDeviceGetHandleByIndex(torch.cuda._get_nvml_device_index(ordinal))
    except (nvml.NVMLError, RuntimeError):
        return None
