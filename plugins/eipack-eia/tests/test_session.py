"""Sessions on an attached accelerator: what they tell, and what they were allowed to do."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from eipack_eia import attached
from torch import nn

import eipack
from eipack.errors import (
    AcceleratorOverloaded,
    AcceleratorUnavailable,
    DeadlineExceeded,
    SignatureMismatch,
)

from .conftest import Served, serving

X = torch.linspace(-1, 1, 8).reshape(2, 4)


class Slow(nn.Module):
    """It multiplies for as long as its input says."""

    def forward(self, x: torch.Tensor, rounds: torch.Tensor) -> torch.Tensor:
        y = torch.ones(256, 256)
        for _ in range(int(rounds)):
            y = (y @ y) / 256
        return x + y[0, 0]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    batch = torch.export.Dim("batch", min=1, max=8)
    package = eipack.export(model, (X,), dynamic_shapes={"input": {0: batch}}, target="eia")
    return package.save(tmp_path_factory.mktemp("packages") / "mlp.eipack")


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    package = eipack.export(
        torch.jit.script(Slow()),
        (X, torch.tensor(1)),
        input_specs={"rounds": {"low": 1, "high": 3}},
    )
    return package.save(tmp_path_factory.mktemp("packages") / "slow.eipack")


@pytest.mark.usefixtures("accelerator")
def test_an_answer_from_there_is_the_answer_from_here(path: Path) -> None:
    with eipack.load(path, "eia:0") as there, eipack.load(path, "cpu") as here:
        for rows in (1, 3, 8, 3):
            x = torch.randn(rows, 4)
            torch.testing.assert_close(there(x), here(x))


@pytest.mark.usefixtures("accelerator")
def test_a_session_tells_where_it_ran_and_where_the_time_went(path: Path) -> None:
    with eipack.load(path, "eia:0") as session:
        session(X), session(X)
        details = session.info.details
    assert details["calls"] == {details["accelerator"]: 2}
    parts = ("serialise_ms", "network_ms", "queue_ms", "compute_ms")
    assert 0 < sum(details[name] for name in parts) <= details["round_trip_ms"] * 2
    assert details["compute_ms"] > 0


@pytest.mark.usefixtures("accelerator")
def test_the_signature_holds_before_anything_is_sent(path: Path) -> None:
    with eipack.load(path, "eia:0") as session:
        with pytest.raises(SignatureMismatch, match="9 on axis 0"):
            session(torch.zeros(9, 4))
        assert session.info.details["calls"] == {}


@pytest.mark.usefixtures("accelerator")
def test_a_call_that_takes_longer_than_its_deadline_is_an_error(slow: Path) -> None:
    with eipack.load(slow, "eia:0", deadline_ms=100) as session:
        assert session(X, torch.tensor(1)).shape == X.shape
        with pytest.raises(DeadlineExceeded, match=r"within 0\.1 s"):
            session(X, torch.tensor(20_000))
        for _ in range(100):  # behind the one that nobody waits for any more
            with suppress(DeadlineExceeded, AcceleratorOverloaded):
                session(X, torch.tensor(1))
                return
            time.sleep(0.1)
        pytest.fail("the accelerator did not recover")


def test_a_lost_accelerator_is_an_error_and_the_next_one_takes_over_if_allowed(
    accelerator: Served, path: Path, tmp_path: Path
) -> None:
    with serving(tmp_path / "store") as other:
        one = other.attach()
        target = f"eia:{one.ordinal}"
        try:
            with (
                eipack.load(path, target) as plain,
                eipack.load(path, target, failover=True) as roaming,
                eipack.load(path, target, fallback="cpu") as falling,
            ):
                expected = plain(X)
                roaming(X), falling(X)
                other.stop(signal.SIGTERM)
                with pytest.raises(AcceleratorUnavailable):
                    plain(X)
                torch.testing.assert_close(roaming(X), expected)
                assert roaming.info.details["accelerator"] == accelerator.said["id"]
                torch.testing.assert_close(falling(X), expected)
                assert falling.info.elsewhere == 1
        finally:
            attached.detach(one.id)
