"""What the tests of parity share: a model from one function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor, nn


class Model(nn.Module):
    """A linear layer and a function that says what to do with it and the inputs."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


@pytest.fixture
def model_of() -> Callable[[Callable[..., Any]], nn.Module]:
    return lambda function: Model(function).eval()
