"""The compiled programs of a GPU: which one they run on, told before any of them is loaded."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from eipack_cuda.inductor import CudaInductorBackend

from eipack.target import Target
from eipack.testing import CAPABILITIES, BackendContract

TARGET = Target("cuda", "inductor", 0)


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda ordinal: SimpleNamespace(name="Hopper", total_memory=80 << 30),
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


def test_the_devices_are_those_of_cuda_under_the_engine(hopper: None) -> None:
    assert [str(one.target) for one in CudaInductorBackend().devices()] == ["cuda+inductor:0"]


def test_a_library_needs_the_architecture_it_was_made_for(hopper: None) -> None:
    backend = CudaInductorBackend()
    record = SimpleNamespace(kind="inductor", attributes=backend.needs(TARGET))
    assert backend.why_unusable(record, TARGET) is None

    record.attributes["architecture"] = "sm_80"

    assert backend.why_unusable(record, TARGET) == (
        "was compiled for architecture sm_80, and here it is sm_90"
    )


@pytest.mark.cuda
@pytest.mark.long
class TestCudaInductor(BackendContract):
    target = "cuda+inductor"
    supports = frozenset(CAPABILITIES)
