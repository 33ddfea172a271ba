"""The packages that cross the wire: a model that reads its whole input and does next to nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

import eipack
from benchmarks.processes import FOLDER, fresh
from benchmarks.rivals.payload import ANSWER, SIZES


class Reader(nn.Module):
    """The first thousand numbers, each with the largest of all added."""

    def forward(self, x: Tensor) -> Tensor:
        """Read all, answer little."""
        return x.flatten()[:ANSWER] + x.amax()


def make(size: str, path: str) -> None:
    """Export the model for one size and save its package."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SIZES[size], generator=generator)
    name = Path(path).stem
    eipack.export(Reader().eval(), (x,), programs=("torchscript",), name=name).save(path)
    print(json.dumps(None), flush=True)


def packed(size: str) -> Path:
    """Return the package for a size, made anew: it costs a second."""
    path = FOLDER / f"wire-{size.partition(' ')[0]}.eipack"
    print(f"making {path.name}", file=sys.stderr)
    fresh(make, size, path)
    return path
