"""What is special to a GPU: moved constants, transfers, memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import eipack
from eipack.kinds.torchscript import move_constants


class Counting(nn.Module):
    """It makes tensors on the CPU in its graph, which must follow it to the GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(x) + torch.arange(4, device="cpu") * torch.tensor([0.5, 1.0, 1.5, 2.0])


X = torch.randn(2, 4, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return Counting().eval()


@pytest.fixture(scope="module", params=["torchscript", "exported"])
def package(model: nn.Module, request: pytest.FixtureRequest) -> Iterator[eipack.Package]:
    with eipack.export(model, (X,), programs=request.param) as made:
        yield made


class OnTheCpu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(4, device="cpu")


def test_graph_constants_that_name_the_cpu_are_made_to_name_the_device() -> None:
    module = torch.jit.trace(OnTheCpu(), (X,), check_trace=False)
    assert 'Device = prim::Constant[value="cpu"]' in str(module.graph)

    move_constants(module, torch.device("cuda:1"))

    assert 'Device = prim::Constant[value="cuda:1"]' in str(module.graph)
    assert 'value="cpu"' not in str(module.graph)


@pytest.mark.cuda
def test_a_program_captured_on_the_cpu_answers_on_the_gpu(
    model: nn.Module, package: eipack.Package
) -> None:
    with eipack.load(package, "cuda:0") as session:
        answer = session(X)

    assert answer.device.type == "cpu"
    torch.testing.assert_close(answer, model(X).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
def test_outputs_stay_on_the_gpu_when_asked(package: eipack.Package) -> None:
    with eipack.load(package, "cuda:0", outputs_on="device") as session:
        assert session(X).device == torch.device("cuda", 0)


@pytest.mark.cuda
def test_inputs_may_lie_on_the_gpu_or_in_pinned_memory(
    model: nn.Module, package: eipack.Package
) -> None:
    expected = model(X).detach()
    with eipack.load(package, "cuda:0") as session:
        for inputs in (X, X.pin_memory(), X.cuda()):
            torch.testing.assert_close(session(inputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
def test_outputs_come_back_in_pinned_memory(package: eipack.Package) -> None:
    with eipack.load(package, "cuda:0") as session:
        assert session(X).is_pinned()


@pytest.mark.cuda
def test_the_current_device_of_the_caller_stays(package: eipack.Package) -> None:
    before = torch.cuda.current_device()
    with eipack.load(package, f"cuda:{torch.cuda.device_count() - 1}") as session:
        session(X)
        assert torch.cuda.current_device() == before


@pytest.mark.cuda
def test_closing_gives_the_memory_of_the_gpu_back() -> None:
    model = nn.Linear(1024, 1024).eval()
    x = torch.randn(1, 1024)
    with eipack.export(model, (x,)) as package:
        before = torch.cuda.memory_allocated(0)
        with eipack.load(package, "cuda:0") as session:
            session(x)
            assert torch.cuda.memory_allocated(0) >= before + (4 << 20)
        del session
        gc.collect()

    assert torch.cuda.memory_allocated(0) == before
