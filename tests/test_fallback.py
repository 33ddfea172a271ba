"""What happens when an accelerator is lost: an error, or what was asked for by name, counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from eipack_toy import ToyBackend
from torch import nn

import eipack
from eipack.errors import AcceleratorUnavailable, DeviceNotFound, ExecutionFailed

X = torch.linspace(-1, 1, 4).reshape(1, 4)


class Lost:
    """A runner that answers twice, and is then gone."""

    def __init__(self, inner, error):
        self.inner, self.error, self.left = inner, error, 2

    def __call__(self, *inputs):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return self.inner(*inputs)

    def close(self):
        self.inner.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    package = eipack.export(nn.Linear(4, 2).eval(), (X,), target=["toy", "cpu"])
    return package.save(tmp_path / "linear.eipack")


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch):
    """Let the toy's runners be lost with an error after two calls."""
    load = ToyBackend.load

    def lose(error: Exception) -> None:
        monkeypatch.setattr(ToyBackend, "load", lambda *given: Lost(load(*given), error))

    return lose


def test_without_a_fallback_a_lost_accelerator_is_an_error(path, losing):
    losing(AcceleratorUnavailable("it was unplugged"))
    with eipack.load(path, "toy:0") as session:
        session(X), session(X)
        with pytest.raises(AcceleratorUnavailable, match="unplugged"):
            session(X)


def test_a_fallback_runs_what_the_accelerator_cannot_and_counts_it(path, losing):
    losing(AcceleratorUnavailable("it was unplugged"))
    with eipack.load(path, "toy:0", fallback="cpu") as session:
        first = session(X)
        assert session.info.elsewhere == 0
        session(X)
        torch.testing.assert_close(session(X), first)
        session(X)
        assert (session.info.elsewhere, session.info.reason) == (2, "it was unplugged")
        assert str(session.target) == "toy:0"


def test_a_fallback_is_not_for_models_that_fail(path, losing):
    losing(ValueError("no such row"))
    with eipack.load(path, "toy:0", fallback="cpu") as session:
        session(X), session(X)
        with pytest.raises(ExecutionFailed, match="no such row"):
            session(X)
        assert session.info.elsewhere == 0


def test_where_there_is_no_accelerator_the_session_says_that_it_runs_on_the_fallback(path):
    with eipack.load(path, "toy:9", fallback="cpu") as session:
        assert str(session.target) == "cpu"
        assert "toy:9" in session.info.reason
        assert session(X).shape == (1, 2)


def test_without_a_fallback_an_absent_accelerator_is_an_error(path):
    with pytest.raises(DeviceNotFound):
        eipack.load(path, "toy:9")


@pytest.mark.parametrize("option", [{"deadline_ms": 5}, {"retries": 1}, {"failover": True}])
def test_an_option_that_a_backend_would_ignore_is_refused(path, option):
    with pytest.raises(ValueError, match=f"cpu does not offer {next(iter(option))}"):
        eipack.load(path, "cpu", **option)


@pytest.mark.parametrize("option", [{"deadline_ms": 0}, {"deadline_ms": -1}, {"retries": -1}])
def test_an_option_that_means_nothing_is_refused(path, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        eipack.load(path, "cpu", **option)
