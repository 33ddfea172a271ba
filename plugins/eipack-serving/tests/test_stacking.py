"""`infer_batch`: one batch where the rows are independent, else one call after another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from eipack_serving import BadRequest, PackageService
from torch import Tensor, nn

import eipack
from eipack.errors import ExecutionFailed
from eipack.session import Session

from .conftest import Packed


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many rows each call of a session has."""
    seen: list[int] = []
    run_flat = Session.run_flat

    def noted(self: Session, *leaves: Tensor) -> tuple[Tensor, ...]:
        seen.append(len(leaves[0]))
        return run_flat(self, *leaves)

    monkeypatch.setattr(Session, "run_flat", noted)
    return seen


def settled(service: PackageService, inputs: dict[str, np.ndarray]) -> None:
    service.infer_batch([inputs])
    assert service._stacking is not None
    service._stacking.settle(60)
    assert service._stacking.reason is None


def test_requests_share_batches_when_rows_are_shown_to_be_independent(
    packed: Packed, calls: list[int]
) -> None:
    with PackageService(packed.path) as service:
        settled(service, packed.inputs())
        calls.clear()
        requests = [packed.inputs(rows, seed=rows) for rows in (1, 5, 4, 7, 3)]
        answers = service.infer_batch(requests)
    assert calls == [10, 10]
    for inputs, outputs in zip(requests, answers, strict=True):
        packed.check(inputs, outputs)


def test_until_that_is_shown_they_run_one_after_another(packed: Packed) -> None:
    with PackageService(packed.path) as service:
        requests = [packed.inputs(2, seed=seed) for seed in range(3)]
        for inputs, outputs in zip(requests, service.infer_batch(requests), strict=True):
            packed.check(inputs, outputs)


def test_a_request_that_does_not_fit_is_refused_by_itself(packed: Packed) -> None:
    with PackageService(packed.path) as service:
        settled(service, packed.inputs())
        wrong = {**packed.inputs(), "x": np.zeros((2, 9), "float32")}
        with pytest.raises(BadRequest, match="9"):
            service.infer_batch([packed.inputs(), wrong])


def test_a_batch_that_fails_is_run_again_by_its_calls(
    packed: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_flat = Session.run_flat

    def small(self: Session, *leaves: Tensor) -> tuple[Tensor, ...]:
        if len(leaves[0]) > 2:
            raise ExecutionFailed("there is no memory")
        return run_flat(self, *leaves)

    with PackageService(packed.path) as service:
        settled(service, packed.inputs())
        monkeypatch.setattr(Session, "run_flat", small)
        requests = [packed.inputs(2, seed=seed) for seed in range(3)]
        for inputs, outputs in zip(requests, service.infer_batch(requests), strict=True):
            packed.check(inputs, outputs)


class Mixing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


def test_rows_that_depend_on_each_other_never_share_a_batch(
    tmp_path: Path, calls: list[int]
) -> None:
    x = torch.randn(4, 3)
    path = eipack.export(
        Mixing().eval(), (x,), dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1, max=8)}}
    ).save(tmp_path / "mixing.eipack")
    with PackageService(path, warm_up=0) as service:
        calls.clear()
        answers = service.infer_batch([{"x": x.numpy()}, {"x": 2 * x.numpy()}])
    assert calls == [4, 4]
    for answer, factor in zip(answers, (1, 2), strict=True):
        (given,) = answer.values()
        np.testing.assert_allclose(given, factor * (x - x.mean(0)).numpy(), rtol=1e-5, atol=1e-6)


def test_closing_ends_the_examination(packed: Packed) -> None:
    service = PackageService(packed.path)
    service.infer_batch([packed.inputs()])
    stacking = service._stacking
    service.close()
    assert stacking is not None
    assert stacking._thread is not None
    assert not stacking._thread.is_alive()
