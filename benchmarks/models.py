"""The models that are measured: full size, random weights (latency does not depend on them)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

IMAGE = (1, 3, 224, 224)
TITLES = {
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "mobilenet": "MobileNetV3 large",
    "vit_b_16": "ViT-B/16",
    "gpt": "OpenAI GPT",
    "bert": "BERT base",
    "distilbert": "DistilBERT",
    "lstm": "LSTM 2x512",
    "small": "Linear, ReLU, Linear",
}


_TOKENS = {"gpt": (40478, 7), "bert": (30522, 128), "distilbert": (30522, 128)}


def inputs(name: str) -> tuple[Tensor, ...]:
    """Return the inputs that a model is measured with."""
    generator = torch.Generator().manual_seed(0)
    if name in _TOKENS:
        vocabulary, length = _TOKENS[name]
        return (torch.randint(0, vocabulary, (1, length), generator=generator),)
    shape = {"lstm": (1, 64, 256), "small": (1, 16)}.get(name, IMAGE)
    return (torch.randn(shape, generator=generator),)


def build(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Build a model as its library does by default, and its inputs.

    Raises:
        KeyError: No model has that name.
    """
    torch.manual_seed(0)
    return _BUILDERS[name]().eval(), inputs(name)


def _text(name: str) -> nn.Module:
    import transformers

    config = getattr(transformers, f"{name}Config")(return_dict=False)
    model: nn.Module = getattr(transformers, f"{name}Model")(config)
    return model


def _vision(name: str) -> nn.Module:
    import torchvision

    model: nn.Module = torchvision.models.get_model(name, weights=None)
    return model


_BUILDERS: dict[str, Any] = {
    "resnet18": lambda: _vision("resnet18"),
    "resnet50": lambda: _vision("resnet50"),
    "mobilenet": lambda: _vision("mobilenet_v3_large"),
    "vit_b_16": lambda: _vision("vit_b_16"),
    "gpt": lambda: _text("OpenAIGPT"),
    "bert": lambda: _text("Bert"),
    "distilbert": lambda: _text("DistilBert"),
    "lstm": lambda: nn.LSTM(256, 512, num_layers=2, batch_first=True),
    "small": lambda: nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)),
}
