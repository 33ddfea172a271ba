"""What calls take beside time: processor time, memory, and the device."""

from __future__ import annotations

import resource
from contextlib import ExitStack, suppress
from pathlib import Path
from time import process_time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from eipack.measuring.report import Resources
from eipack.measuring.resources_device import Gpu, gpu_of

if TYPE_CHECKING:
    from eipack.target import Target

_STATUS: Final = Path("/proc/self/status")
_CLEAR: Final = Path("/proc/self/clear_refs")
_RESET_PEAK: Final = "5"


class Meter:
    """Read what this process takes between `start` and `stop`, over as many turns as there are.

    Make it before the package is loaded, since memory counts from then; load between a `start`
    and a `stop` of its own, which have no calls and so no part in the time for each call.
    Nothing is read between them but the use of a GPU, on a thread, where NVIDIA's library can.
    Close it, or use it as a context manager.
    """

    def __init__(self, target: Target) -> None:
        self._stack = ExitStack()
        found = gpu_of(target)
        self._gpu: Gpu | None = None if found is None else self._stack.enter_context(found)
        self._baseline_bytes = resident_bytes()
        self._began_ns = 0
        self._cpu_ns = self._calls = 0
        self._peak_bytes: int | None = None

    def start(self) -> None:
        """Begin a turn."""
        _reset_peak()
        if self._gpu is not None:
            self._gpu.start()
        self._began_ns = process_time_ns()

    def stop(self, calls: int) -> None:
        """End a turn in which so many calls were made."""
        spent_ns = process_time_ns() - self._began_ns
        if calls:
            self._cpu_ns += spent_ns
            self._calls += calls
        self._peak_bytes = max(self._peak_bytes or 0, peak_bytes())
        if self._gpu is not None:
            self._gpu.stop(busy=bool(calls))

    def resources(self) -> Resources:
        """Return what the turns so far took; None for each figure that cannot be read."""
        peak, baseline = self._peak_bytes, self._baseline_bytes
        added = None if peak is None or baseline is None else max(0, peak - baseline)
        return Resources(
            cpu_ms=self._cpu_ns / self._calls / 1e6 if self._calls else None,
            host_bytes=added,
            host_peak_bytes=peak,
            device_peak_bytes=None if self._gpu is None else self._gpu.peak_bytes,
            device_utilisation=None if self._gpu is None else self._gpu.utilisation,
        )

    def close(self) -> None:
        """Let NVIDIA's library go."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def resident_bytes() -> int | None:
    """Return how much memory this process has in use now, pages of mapped files included."""
    return _status_bytes("VmRSS")


def peak_bytes() -> int:
    """Return the most since the last turn began, or since the process did if Linux keeps that."""
    found = _status_bytes("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if found is None else found


def _status_bytes(key: str) -> int | None:
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = (line.partition(":")[2].split() for line in lines if line.startswith(f"{key}:"))
    words = next(found, [])
    return int(words[0]) * 1024 if words and words[0].isdigit() else None


def _reset_peak() -> None:
    """Have Linux count the peak from now on; where it may not, the peak is the process's."""
    with suppress(OSError):
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
