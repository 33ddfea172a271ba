"""Which GPUs are listed, on a machine that has none: torch.cuda is told what to say."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from eipack_cuda import CudaBackend

import eipack
from eipack.errors import DeviceNotFound
from eipack.registry import locate
from eipack.target import Target


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda ordinal: SimpleNamespace(name=f"GPU {ordinal}", total_memory=8 << 30),
    )


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_each_visible_gpu_is_listed_under_its_ordinal(two_gpus: None) -> None:
    listed = CudaBackend().devices()

    assert [str(device.target) for device in listed] == ["cuda:0", "cuda:1"]
    assert [device.name for device in listed] == ["GPU 0", "GPU 1"]
    assert {device.memory_bytes for device in listed} == {8 << 30}


def test_a_gpu_that_cannot_be_asked_is_listed_as_unhealthy(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(ordinal: int) -> None:
        raise RuntimeError("CUDA error: unknown error\nCUDA kernel errors might be asynchronous")

    monkeypatch.setattr(torch.cuda, "get_device_properties", lost)

    first, _ = CudaBackend().devices()

    assert not first.healthy
    assert first.detail == "CUDA error: unknown error"
    with pytest.raises(DeviceNotFound, match="cuda:0: no such device; CUDA error: unknown error"):
        locate(Target.parse("cuda:0"))


def test_without_a_driver_there_is_none_and_the_error_says_so(no_gpu: None) -> None:
    assert CudaBackend().devices() == []
    with pytest.raises(DeviceNotFound, match="cuda:0: no such device; no cuda device is visible"):
        locate(Target.parse("cuda:0"))


def test_an_ordinal_beyond_those_visible_is_not_found(two_gpus: None) -> None:
    with pytest.raises(DeviceNotFound, match="there are cuda:0, cuda:1"):
        locate(Target.parse("cuda:2"))


def test_no_ordinal_means_the_first_gpu(two_gpus: None) -> None:
    assert locate(Target.parse("cuda"))[1] == Target("cuda", ordinal=0)


def test_a_package_for_cuda_can_be_made_where_there_is_no_gpu(no_gpu: None) -> None:
    model = torch.nn.Linear(3, 2).eval()
    x = torch.randn(1, 3)

    with eipack.export(model, (x,), target="cuda") as package:
        with eipack.load(package, "cpu") as session:
            torch.testing.assert_close(session(x), model(x))
        with pytest.raises(DeviceNotFound):
            eipack.load(package, "cuda")
