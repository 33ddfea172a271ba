"""What is special to `cpu+onednn`: which operators run, on which weights, and in what precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from eipack_cpu.graphs import constant_tensor, frozen_module
from eipack_cpu.rewriting import Choices, rewrite
from torch import Tensor, nn

import eipack
from eipack.errors import EipackError, ParityFailed


class Residual(nn.Module):
    """A block as that of a residual network."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.first(x)))
        y = torch.relu(y + self.second(y))
        return self.head(y.mean((2, 3)))


X = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return Residual().eval()


@pytest.fixture(scope="module")
def file(model: nn.Module, shared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with eipack.export(model, (X,), programs=["torchscript", "exported"]) as package:
        return package.save(tmp_path_factory.mktemp("onednn") / "residual.eipack")


def rewritten(
    model: nn.Module, x: Tensor, choices: Choices | None = None, *, static: bool = True
) -> Any:
    module = frozen_module(torch.jit.trace(model, (x,)))
    rewrite(module.graph, (torch.zeros_like(x),), choices or Choices(), static=static)
    return module


def operators(module: Any) -> list[str]:
    kinds = [node.kind() for node in module.graph.nodes()]
    return [kind for kind in kinds if kind not in ("prim::Constant", "prim::ListConstruct")]


def weights(module: Any) -> list[Tensor]:
    found = [constant_tensor(value) for node in module.graph.nodes() for value in node.outputs()]
    return [tensor for tensor in found if tensor is not None and tensor.dim() > 1]


def test_layers_run_in_onednn_with_all_that_follows_them(model: nn.Module) -> None:
    assert operators(rewritten(model, X)) == [
        "mkldnn::_convolution_pointwise",
        "mkldnn::_convolution_pointwise",
        "aten::mean",
        "mkldnn::_linear_pointwise",
    ]


def test_sums_stay_apart_where_sizes_may_change(model: nn.Module) -> None:
    assert "aten::add" in operators(rewritten(model, X, static=False))


def test_nothing_is_fused_if_the_caller_says_so(model: nn.Module) -> None:
    found = operators(rewritten(model, X, Choices(fuse=False)))

    assert found.count("aten::relu") == 2
    assert "aten::add" in found


def test_weights_are_packed_unless_the_caller_says_otherwise(model: nn.Module) -> None:
    assert all(weight.is_mkldnn for weight in weights(rewritten(model, X)))
    plain = rewritten(model, X, Choices(prepack=False))
    assert not any(weight.is_mkldnn for weight in weights(plain))


def test_an_unpacked_linear_weight_is_the_packages_own() -> None:
    linear = nn.Linear(4, 5).eval()
    module = rewritten(linear, torch.ones(3, 4), Choices(prepack=False))

    assert [weight.data_ptr() for weight in weights(module)] == [linear.weight.data_ptr()]


@pytest.mark.parametrize("program", ["torchscript", "exported"])
@pytest.mark.parametrize("options", [{}, {"prepack": False}, {"fuse": False}])
def test_every_choice_gives_the_answer(
    model: nn.Module, file: Path, program: str, options: dict[str, bool]
) -> None:
    with eipack.load(file, "cpu+onednn", program=program, options={"onednn": options}) as session:
        torch.testing.assert_close(session(X), model(X).detach(), rtol=1e-4, atol=1e-5)


def test_bfloat16_tells_what_it_loses(file: Path) -> None:
    with eipack.load(file, "cpu+onednn", precision="bfloat16") as session:
        loss = session.info.loss

    assert loss is not None
    assert 0 < loss.relative <= loss.allowed


def test_layers_in_bfloat16_hand_on_what_they_made_as_it_is(model: nn.Module) -> None:
    found = operators(rewritten(model, X, Choices(bfloat16=True)))

    # into the first, out of the second, and around the head
    assert found.count("aten::to") == 4


def test_a_model_that_bfloat16_spoils_is_refused() -> None:
    class Fine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Linear(4, 4, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.scale(x + 1000) - self.scale(torch.full_like(x, 1000.0))

    with eipack.export(Fine().eval(), (torch.randn(2, 4),)) as package:
        with pytest.raises(ParityFailed, match="bfloat16"):
            eipack.load(package, "cpu+onednn", precision="bfloat16")


def test_an_option_is_true_or_false(file: Path) -> None:
    with pytest.raises(EipackError, match="takes true or false as prepack, not 'yes'"):
        eipack.load(file, "cpu+onednn", options={"onednn": {"prepack": "yes"}})


def test_an_unbatched_image_is_convolved_as_before() -> None:
    layer = nn.Conv2d(3, 4, 3).eval()
    image = torch.randn(3, 8, 8)
    with eipack.export(layer, (image,)) as package, eipack.load(package, "cpu+onednn") as session:
        torch.testing.assert_close(session(image), layer(image).detach())


def test_views_of_what_a_convolution_gives_still_work() -> None:
    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).view(x.shape[0], 4, -1).sum(1)

    model, image = Viewed().eval(), torch.randn(2, 3, 8, 8)
    with eipack.export(model, (image,)) as package, eipack.load(package, "cpu+onednn") as session:
        torch.testing.assert_close(session(image), model(image).detach(), rtol=1e-4, atol=1e-5)


def test_threads_are_those_asked_for(file: Path) -> None:
    before = torch.get_num_threads()
    with eipack.load(file, "cpu+onednn", threads=1) as session:
        session(X)
        assert session.info.threads == 1
    assert torch.get_num_threads() == before
