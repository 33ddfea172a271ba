"""On the CPU a program runs as it stands, from the first call on."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from eipack.interpreter import interpreted


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))

    def forward(self, x: torch.Tensor, twice: bool = False) -> torch.Tensor:
        y = self.layers(x) + self.layers(x)
        if twice:
            y = y * 2
        return y


@pytest.fixture
def module() -> torch.jit.ScriptModule:
    return torch.jit.script(Branching().eval())


def test_answers_are_the_modules_own(module: torch.jit.ScriptModule) -> None:
    x = torch.randn(3, 4)
    with torch.no_grad():
        expected = [module(x), module(x, twice=True)]
        call = interpreted(module)
        assert torch.equal(call(x), expected[0])
        assert torch.equal(call(x, twice=True), expected[1])


def test_every_call_gives_the_same_bits(module: torch.jit.ScriptModule) -> None:
    call, x = interpreted(module), torch.randn(3, 4)
    with torch.inference_mode():
        first = call(x)
        assert all(torch.equal(call(x), first) for _ in range(5))


def test_weights_stay_where_they_are(module: torch.jit.ScriptModule) -> None:
    before = {name: p.data_ptr() for name, p in module.named_parameters()}
    interpreted(module)
    assert {name: p.data_ptr() for name, p in module.named_parameters()} == before
    assert not list(module.graph.findAllNodes("prim::CallMethod"))
    constants = module.graph.findAllNodes("prim::Constant")
    assert not any(node.output().type().kind() == "TensorType" for node in constants)


@pytest.mark.parametrize("before", [True, False])
def test_the_callers_executor_setting_comes_back(
    module: torch.jit.ScriptModule, *, before: bool
) -> None:
    call = interpreted(module)
    with torch.jit.optimized_execution(before):
        call(torch.randn(3, 4))
        assert torch._C._get_graph_executor_optimize() is before
        with pytest.raises(RuntimeError):
            call(torch.randn(3, 5))
        assert torch._C._get_graph_executor_optimize() is before


def test_it_holds_on_any_thread(module: torch.jit.ScriptModule) -> None:
    call, x = interpreted(module), torch.randn(3, 4)
    results: list[torch.Tensor] = []

    def work() -> None:
        with torch.inference_mode():
            results.append(call(x))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(result, results[0]) for result in results)
