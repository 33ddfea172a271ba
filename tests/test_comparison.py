"""A session elsewhere measured beside this processor, if that was asked for."""

from __future__ import annotations

import time
import warnings

import pytest
import torch
from eipack_toy import ToyBackend
from torch import nn

import eipack
from eipack.comparison import SlowerThanLocal

X = torch.linspace(-1, 1, 4).reshape(1, 4)


@pytest.fixture
def path(tmp_path):
    package = eipack.export(nn.Linear(4, 2).eval(), (X,), target=["toy", "cpu"])
    return package.save(tmp_path / "linear.eipack")


class Slow:
    def __init__(self, inner):
        self.inner = inner

    def __call__(self, *inputs):
        time.sleep(0.005)
        return self.inner(*inputs)

    def close(self):
        self.inner.close()


def test_a_slower_place_is_told_of(path, monkeypatch):
    load = ToyBackend.load
    monkeypatch.setattr(ToyBackend, "load", lambda *given: Slow(load(*given)))
    with pytest.warns(SlowerThanLocal, match=r"linear|Linear takes .* ms on toy:0 and .* on cpu"):
        session = eipack.load(path, "toy:0", compare_local=True)
    with session:
        found = session.info.comparison
        assert found.there_ms > 5 > found.here_ms > 0
        assert session(X).shape == (1, 2)


def test_nothing_is_measured_unless_it_is_asked_for(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with eipack.load(path, "toy:0") as session:
            assert session.info.comparison is None
