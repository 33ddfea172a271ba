"""`PackageService`: opened when used, once a process; drained; errors that carry a status."""

from __future__ import annotations

import asyncio
import os
import pickle
import time
from pathlib import Path
from threading import Event, Thread, get_ident

import ml_dtypes
import numpy as np
import pytest
import torch
from eipack_serving import BadRequest, PackageService, Unavailable, status_of
from torch import Tensor, nn

import eipack
from eipack.errors import (
    AcceleratorOverloaded,
    AcceleratorUnavailable,
    DeadlineExceeded,
    EipackError,
    ExecutionFailed,
    PackageIOError,
    SignatureMismatch,
)
from eipack.session import Session

from .conftest import Packed, from_clients


def test_making_one_opens_nothing(tmp_path: Path) -> None:
    service = PackageService(tmp_path / "missing.eipack")
    assert not service.ready
    with pytest.raises(PackageIOError, match=r"missing\.eipack"):
        service.start()


def test_the_first_call_opens_the_package(packed: Packed) -> None:
    service = PackageService(packed.path)
    inputs = packed.inputs()
    packed.check(inputs, service.infer(inputs))
    assert service.ready
    service.close()


def test_outputs_are_those_of_the_model(packed: Packed) -> None:
    with PackageService(packed.path) as service:
        for rows in (1, 5, 16):
            inputs = packed.inputs(rows)
            packed.check(inputs, service.infer(inputs))
            packed.check(inputs, asyncio.run(service.ainfer(inputs)))


def test_quick_calls_run_on_the_event_loop_and_slow_ones_beside_it(packed: Packed) -> None:
    async def places() -> tuple[int, int]:
        async def place(seconds: float) -> int:
            return await service.arun(lambda _: (time.sleep(seconds), get_ident())[1])

        with PackageService(packed.path) as service:
            for _ in range(200):  # whatever else this machine does, most of them are quick
                quick = await place(0)
            await place(0.05)
            return quick, await place(0.05)

    quick, slow = asyncio.run(places())
    assert quick == get_ident()
    assert slow != get_ident()


def test_it_is_called_as_the_model_itself(packed: Packed) -> None:
    with PackageService(packed.path) as service:
        x, shift = (torch.from_numpy(one) for one in packed.inputs().values())
        outputs = service.call(x, shift=shift)
        packed.check(packed.inputs(), {name: one.numpy() for name, one in outputs.items()})


def test_metadata_is_the_signature_in_the_protocols_words(packed: Packed) -> None:
    assert PackageService(packed.path).metadata() == {
        "name": "scorer",
        "versions": ["1"],
        "platform": "eipack_package",
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [-1, 8]},
            {"name": "shift", "datatype": "FP32", "shape": [-1, 4]},
        ],
        "outputs": [
            {"name": "scores", "datatype": "FP32", "shape": [-1, 4]},
            {"name": "best", "datatype": "INT64", "shape": [-1, 1]},
        ],
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: one.pop("shift"), "x given; scorer takes x, shift"),
        (lambda one: one.update(more=one["x"]), "more, shift, x given"),
        (lambda one: one.update(x=one["x"].astype("float64")), "float64"),
        (lambda one: one.update(x=one["x"][:, :7]), "7"),
        (lambda one: one.update(x=np.zeros((17, 8), "float32")), "17"),
        (lambda one: one.update(x=[1.0]), "'x' is a list"),
        (lambda one: one.update(x=np.array(["text"])), "dtype <U4"),
    ],
)
def test_inputs_that_do_not_fit_are_a_bad_request(packed: Packed, change, said: str) -> None:
    inputs = packed.inputs()
    change(inputs)
    with PackageService(packed.path) as service:
        with pytest.raises(BadRequest, match=said) as caught:
            service.infer(inputs)
    assert caught.value.status == 400
    assert isinstance(caught.value, SignatureMismatch)


def test_arrays_that_torch_cannot_view_are_copied(packed: Packed) -> None:
    inputs = packed.inputs()
    frozen = {name: one.copy() for name, one in inputs.items()}
    frozen["x"].flags.writeable = False
    with PackageService(packed.path) as service:
        for x in (frozen["x"], inputs["x"].astype(">f4"), inputs["x"][::-1][::-1]):
            packed.check(inputs, service.infer({**inputs, "x": x}))


class Halved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 2


def test_bfloat16_comes_and_goes_as_ml_dtypes(tmp_path: Path) -> None:
    x = torch.tensor([[1.0, 3.0]], dtype=torch.bfloat16)
    path = eipack.export(Halved().eval(), (x,), name="halved").save(tmp_path / "h.eipack")
    with PackageService(path) as service:
        array = np.array([[1.0, 3.0]], ml_dtypes.bfloat16)
        for given in (array, x):
            (output,) = service.infer({"x": given}).values()
            assert output.dtype == ml_dtypes.bfloat16
            assert output.astype("float32").tolist() == [[0.5, 1.5]]


def test_a_drained_service_refuses_and_may_start_again(packed: Packed) -> None:
    with PackageService(packed.path) as service:
        assert service.drain()
        assert not service.ready
        with pytest.raises(Unavailable, match="draining") as caught:
            service.infer(packed.inputs())
        assert caught.value.status == 503
        with pytest.raises(Unavailable, match="draining"):
            asyncio.run(service.ainfer(packed.inputs()))
        service.start()
        service.infer(packed.inputs())


def test_a_closed_service_refuses(packed: Packed) -> None:
    service = PackageService(packed.path)
    service.close()
    with pytest.raises(Unavailable, match="closed"):
        service.infer(packed.inputs())
    with pytest.raises(Unavailable, match="closed"):
        asyncio.run(service.ainfer(packed.inputs()))


def test_draining_waits_for_calls_that_run(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    running, go_on = Event(), Event()
    run_flat = Session.run_flat

    def slowly(self: Session, *leaves: Tensor) -> tuple[Tensor, ...]:
        running.set()
        assert go_on.wait(20)
        return run_flat(self, *leaves)

    with PackageService(packed.path) as service:
        monkeypatch.setattr(Session, "run_flat", slowly)
        answers: list[dict[str, np.ndarray]] = []
        client = Thread(target=lambda: answers.append(service.infer(packed.inputs())))
        client.start()
        assert running.wait(20)
        assert not service.drain(within_s=0.05)
        go_on.set()
        assert service.drain(within_s=20)
        client.join(20)
    packed.check(packed.inputs(), answers[0])


def test_a_forked_child_opens_the_package_for_itself(packed: Packed) -> None:
    with PackageService(packed.path) as service:
        service.infer(packed.inputs())
        pid = os.fork()
        if not pid:  # the child says by its exit code what it found
            code = 1
            try:
                fresh = not service.ready
                packed.check(packed.inputs(), service.infer(packed.inputs()))
                code = 0 if fresh and service.ready else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        packed.check(packed.inputs(), service.infer(packed.inputs()))


def test_it_can_be_pickled_and_starts_anew_where_it_arrives(packed: Packed) -> None:
    with PackageService(packed.path, threads=1, warm_up=1, workers=3) as service:
        there = pickle.loads(pickle.dumps(service))
    assert (there.workers, there.warm_up, there.ready) == (3, 1, False)
    with there:
        packed.check(packed.inputs(), there.infer(packed.inputs()))


def test_several_threads_open_it_once(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    load = PackageService._load
    monkeypatch.setattr(PackageService, "_load", lambda self: opened.append(1) or load(self))
    service = PackageService(packed.path)
    from_clients(
        64,
        8,
        lambda number: packed.check(
            packed.inputs(seed=number), service.infer(packed.inputs(seed=number))
        ),
    )
    service.close()
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("error", "status", "raised"),
    [
        (AcceleratorOverloaded("it is full"), 503, Unavailable),
        (AcceleratorUnavailable("it is gone"), 503, Unavailable),
        (DeadlineExceeded("too late"), 504, DeadlineExceeded),
        (ExecutionFailed("it broke"), 500, ExecutionFailed),
    ],
)
def test_every_failure_has_a_status(
    packed: Packed,
    monkeypatch: pytest.MonkeyPatch,
    error: EipackError,
    status: int,
    raised: type[EipackError],
) -> None:
    def fail(self: Session, *leaves: Tensor) -> None:
        raise error

    with PackageService(packed.path) as service:
        monkeypatch.setattr(Session, "run_flat", fail)
        with pytest.raises(raised, match=str(error)) as caught:
            service.infer(packed.inputs())
    assert status_of(caught.value) == status


def test_it_runs_on_an_accelerator(packed: Packed, accelerator: str) -> None:
    with PackageService(packed.path, accelerator) as service:
        from_clients(
            40,
            4,
            lambda number: packed.check(
                packed.inputs(seed=number), service.infer(packed.inputs(seed=number))
            ),
        )
        packed.check(packed.inputs(), asyncio.run(service.ainfer(packed.inputs())))
