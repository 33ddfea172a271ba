"""The models that are measured: full size, random weights (latency does not depend on them)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

IMAGE = (1, 3, 224, 224)
TITLES = {
    "gpt": "OpenAI GPT",
    "resnet50": "ResNet-50",
    "vit_b_16": "ViT-B/16",
    "lstm": "LSTM 2x512",
    "small": "Linear, ReLU, Linear",
}


def inputs(name: str) -> tuple[Tensor, ...]:
    """Return the inputs that a model is measured with."""
    generator = torch.Generator().manual_seed(0)
    if name == "gpt":
        return (torch.randint(0, 40478, (1, 7), generator=generator),)
    shape = {"lstm": (1, 64, 256), "small": (1, 16)}.get(name, IMAGE)
    return (torch.randn(shape, generator=generator),)


def build(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Build a model as its library does by default, and its inputs.

    Raises:
        KeyError: No model has that name.
    """
    torch.manual_seed(0)
    return _BUILDERS[name]().eval(), inputs(name)


def _gpt() -> nn.Module:
    from transformers import OpenAIGPTConfig, OpenAIGPTModel

    model: nn.Module = OpenAIGPTModel(OpenAIGPTConfig(return_dict=False))
    return model


def _vision(name: str) -> nn.Module:
    import torchvision

    model: nn.Module = torchvision.models.get_model(name, weights=None)
    return model


_BUILDERS: dict[str, Any] = {
    "gpt": _gpt,
    "resnet50": lambda: _vision("resnet50"),
    "vit_b_16": lambda: _vision("vit_b_16"),
    "lstm": lambda: nn.LSTM(256, 512, num_layers=2, batch_first=True),
    "small": lambda: nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)),
}
