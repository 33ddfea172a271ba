"""Make the packages of the compatibility corpus, once for each version of the format.

Packages of a released version are never made again: what they hold must stay readable. The key
that signs them is thrown away, and its public half lies beside them. Run it on the lowest torch
that is supported, since exported programs are for the torch that wrote them and for later ones:

    .venv-lowest/bin/python tests/corpus/make.py tests/corpus/format-1
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

import eipack
from eipack.trust import SigningKey


class Tied(nn.Module):
    """Tied weights, a list and a dict of tensors, a buffer that is not persistent."""

    rows: list[torch.Tensor]
    table: dict[str, torch.Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 4)
        self.head = nn.Linear(4, 12, bias=False)
        self.head.weight = self.embed.weight
        self.rows = [torch.randn(4), torch.randn(4)]
        self.table = {"scale": torch.randn(4)}
        self.register_buffer("shift", torch.randn(4), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids) * self.table["scale"] + self.rows[0] - self.rows[1]
        return self.head(x + self.shift)


class Strided(nn.Module):
    """Transposed, sliced and channels-last tensors; half, complex and 0-dim ones; a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)
        self.transposed = nn.Parameter(torch.randn(6, 4).t())
        self.register_buffer("sliced", torch.randn(10)[2:6])
        self.register_buffer("halves", torch.randn(4).half())
        self.register_buffer("turns", torch.randn(4, dtype=torch.complex128))
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.constant = torch.randn(4)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.conv(image).mean((2, 3)) * self.constant + self.sliced + self.halves
        return {"main": x @ self.transposed * self.scale, "turned": x * self.turns.real.float()}


class Plain(nn.Module):
    """A small perceptron with a dynamic batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 40)
        self.second = nn.Linear(40, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


def packages() -> Iterator[tuple[str, nn.Module, dict[str, Any]]]:
    """Give a file name, a model and how to export it."""
    ids = {"inputs": (torch.tensor([[1, 5, 11]]),)}
    image = {"inputs": (torch.randn(1, 3, 4, 4),)}
    yield "torchscript-traced-strided", Strided(), {**image, "method": "trace"}
    yield "torchscript-scripted-tied", Tied(), {**ids, "method": "script"}
    yield "exported-strided", Strided(), {**image, "programs": "exported"}
    yield "onnx-tied", Tied(), {**ids, "programs": "onnx"}
    batch = torch.export.Dim("batch", min=1, max=8)
    shared = {
        "inputs": {"x": torch.randn(2, 8)},
        "programs": ["torchscript", "exported", "onnx"],
        "dynamic_shapes": {"x": {0: batch}},
        "assets": {"labels": ["cat", "dog", "bird"], "licence": b"Public domain."},
        "version": "1.0",
    }
    yield "all-kinds-dynamic", Plain(), shared


def main(folder: Path) -> None:
    """Write the packages and the public key into a new folder."""
    folder.mkdir(parents=True)
    key = SigningKey.generate()
    os.environ["EIPACK_SIGNING_KEY"] = key._pem().decode()
    (folder / "key.pem").write_text(key.public.pem)
    for name, model, options in packages():
        torch.manual_seed(0)
        eipack.export(model.eval(), name=name, **options).save(folder / f"{name}.eipack")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
