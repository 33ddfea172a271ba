"""Leaks: what a session leaves behind when it is closed."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from eipack.errors import EipackError
from eipack.loading import load
from eipack.package.stored import StoredProgram
from eipack.testing.base import ContractBase
from eipack.testing.models import call
from eipack.testing.promise import promise
from eipack.testing.zoo import zoo_model

_WARMING = 4
_CYCLES = 12
_WEIGHTS_BYTES = 4 << 20


class LeakChecks(ContractBase):
    """What opening, calling and closing costs for good: nothing."""

    @promise
    def test_closing_gives_back_file_descriptors(self) -> None:
        """Keep no file descriptor of a closed session."""
        grown = self._growth(_file_descriptors)
        assert grown < _CYCLES // 2, f"{_CYCLES} sessions left {grown} file descriptors open"

    @promise
    def test_closing_ends_threads(self) -> None:
        """Keep no thread of a closed session."""
        grown = self._growth(_threads)
        assert grown < _CYCLES // 2, f"{_CYCLES} sessions left {grown} threads running"

    @promise
    def test_closing_unmaps_the_weights(self) -> None:
        """Keep no weights mapped once a session is closed."""
        self._cycle()
        path = str(self.package("heavy"))
        held = [line for line in _lines("/proc/self/maps") if line.endswith(path)]
        assert not held, f"{len(held)} mappings of the package outlive its sessions"

    @promise
    def test_closing_gives_back_memory(self) -> None:
        """Keep no copy of the weights of a closed session."""
        grown = self._growth(_resident_bytes)
        weights = _CYCLES * _WEIGHTS_BYTES
        assert grown < weights // 2, (
            f"{_CYCLES} sessions of {_WEIGHTS_BYTES >> 20} MiB each left {grown >> 20} MiB behind"
        )

    @promise
    def test_a_damaged_program_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Refuse a program that it cannot read with an EipackError, and let go of everything."""
        self.need_device()
        path = self.package("perceptron")
        monkeypatch.setattr(StoredProgram, "member", lambda *_: b"not what was saved")
        monkeypatch.setattr(StoredProgram, "package", lambda _: None)

        def refused() -> None:
            with pytest.raises(EipackError):
                load(path, self.target)

        grown = _growth(_file_descriptors, refused)
        assert grown < _CYCLES // 2, f"{_CYCLES} refusals left {grown} file descriptors open"

    def _growth(self, measure: Callable[[], int]) -> int:
        self.need_device()
        return _growth(measure, self._cycle)

    def _cycle(self) -> None:
        model = zoo_model("heavy")
        with self.open(model) as session:
            call(session, model.inputs(1))


def _growth(measure: Callable[[], int], cycle: Callable[[], None]) -> int:
    """Return by how much a measure grows over the cycles that follow the first few."""
    for _ in range(_WARMING):
        cycle()
    gc.collect()
    before = measure()
    for _ in range(_CYCLES):
        cycle()
    gc.collect()
    return measure() - before


def _file_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the names alone are wanted


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - as above


def _resident_bytes() -> int:
    # what earlier work freed goes back now, or it would hide as much of what is kept
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)(0)
    return int(_lines("/proc/self/statm")[0].split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
