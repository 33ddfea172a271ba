"""Threads, futures and tasks: one session, many callers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from eipack.errors import SignatureMismatch
from eipack.session import Session
from eipack.testing.answers import require_answer, require_equal
from eipack.testing.base import ContractBase
from eipack.testing.models import Inputs, ZooModel, call
from eipack.testing.promise import promise
from eipack.testing.zoo import zoo_model

_THREADS = 4
_CALLS = 25


class ThreadChecks(ContractBase):
    """What several callers may do at once."""

    @promise
    @pytest.mark.parametrize("name", ["several_inputs_and_outputs", "attention", "dynamic_batch"])
    def test_threads_do_not_disturb_each_other(self, name: str) -> None:
        """Answer several threads at once, each with the answer to its own inputs."""
        model = zoo_model(name)
        if model.needs is not None and model.needs not in self.supports:
            pytest.skip(f"needs the capability {model.needs}")
        calls = [
            model.inputs(seed, model.sizes[seed % len(model.sizes)]) for seed in range(_THREADS)
        ]
        pool = ThreadPoolExecutor(_THREADS)
        with self.open(model) as session, pool, _eager_switching():
            for done in [pool.submit(_repeat, session, model, inputs) for inputs in calls]:
                done.result()

    @promise
    def test_any_thread_may_use_a_session(self) -> None:
        """Let one thread open, another call and a third close."""
        model = zoo_model("perceptron")
        session = self.open(model)
        for action in (lambda: require_answer(session, model, model.inputs(1)), session.close):
            with ThreadPoolExecutor(1) as pool:
                pool.submit(action).result()

    @promise
    def test_futures_give_answers(self) -> None:
        """Give a future for each submitted call, on as many threads as were asked for."""
        model = zoo_model("several_inputs_and_outputs")
        calls = [model.inputs(seed) for seed in range(12)]
        with self.open(model, workers=3) as session:
            futures = [call(session.submit, inputs) for inputs in calls]
            for inputs, future in zip(calls, futures, strict=True):
                require_equal(model(inputs), future.result(), model.name)
            with pytest.raises(SignatureMismatch):
                session.submit().result()
            last = call(session.submit, calls[0])
        require_equal(model(calls[0]), last.result(), f"{model.name}, submitted before closing")

    @promise
    def test_tasks_can_await_answers(self) -> None:
        """Answer awaiting tasks side by side."""
        model = zoo_model("perceptron")
        calls = [model.inputs(seed) for seed in range(6)]

        async def together(session: Session) -> list[Any]:
            return await asyncio.gather(*(call(session.arun, inputs) for inputs in calls))

        with self.open(model, workers=2) as session:
            for inputs, answer in zip(calls, asyncio.run(together(session)), strict=True):
                require_equal(model(inputs), answer, model.name)


def _repeat(session: Session, model: ZooModel, inputs: Inputs) -> None:
    expected = model(inputs)
    for _ in range(_CALLS):
        require_equal(expected, call(session, inputs), f"{model.name}, called from several threads")


@contextmanager
def _eager_switching() -> Iterator[None]:
    """Let Python change threads as often as it can, so that races show."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
