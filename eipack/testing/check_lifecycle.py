"""The life of a session: opening, closing, being forgotten, being forked."""

from __future__ import annotations

import gc
import os
import select
import signal
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from eipack.backend import LoadOptions
from eipack.errors import SessionClosed
from eipack.package import Package
from eipack.session import Session
from eipack.testing.answers import require_answer
from eipack.testing.base import ContractBase
from eipack.testing.models import call, tensors
from eipack.testing.promise import promise
from eipack.testing.zoo import zoo_model

_PATIENCE_S = 30.0


class LifecycleChecks(ContractBase):
    """From open to close."""

    @promise
    def test_a_closed_session_refuses_calls(self) -> None:
        """Open, answer and close; refuse every later use with SessionClosed."""
        model = zoo_model("perceptron")
        session = self.open(model)
        require_answer(session, model, model.inputs(1))
        session.close()
        assert session.closed, "a closed session says that it is open"
        with pytest.raises(SessionClosed):
            call(session, model.inputs(1))
        with pytest.raises(SessionClosed):
            session.submit(*model.inputs(1))

    @promise
    def test_closing_twice_does_nothing(self) -> None:
        """Close once, however often a session is closed."""
        session = self.open("perceptron")
        session.close()
        session.close()

    @promise
    def test_leaving_the_block_closes(self) -> None:
        """Close at the end of a with block, by an exception too."""
        with self.open("perceptron") as session:
            pass
        assert session.closed, "the session is open after its with block"
        with pytest.raises(KeyError), self.open("perceptron") as session:
            raise KeyError
        assert session.closed, "the session is open after an exception"

    @promise
    def test_a_closed_runner_refuses_to_run(self) -> None:
        """Raise SessionClosed from a runner that is closed, as when a call and close race."""
        self.need_device()
        model = zoo_model("perceptron")
        with Package.open(self.package(model)) as package:
            record = next(r for r in package.programs if r.kind in self.backend.kinds)
            place = self.backend.find(self.wanted).target
            runner = self.backend.load(package._read_program(record), place, LoadOptions())
            leaves = tensors(model.inputs(1))
            with self.backend.context(place):
                runner(*leaves)
            runner.close()
            with pytest.raises(SessionClosed), self.backend.context(place):
                runner(*leaves)

    @promise
    def test_a_forgotten_session_is_released(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be released, and closed, with a session that was never closed."""
        runners: list[weakref.ref[Any]] = []
        closed: list[bool] = []
        self.replace_load(monkeypatch, lambda runner: _Seen(runner, runners, closed))
        model = zoo_model("perceptron")
        session = self.open(model)
        call(session, model.inputs(1))
        del session
        gc.collect()
        assert closed == [True], "the runner of a forgotten session was never closed"
        assert [ref() for ref in runners] == [None], "the runner of a forgotten session lives on"

    @promise
    def test_sessions_are_independent(self) -> None:
        """Keep a session working while others of the same package are closed and opened."""
        model = zoo_model("constants")
        with self.open(model) as first:
            with self.open(model) as second:
                require_answer(second, model, model.inputs(1))
            require_answer(first, model, model.inputs(2), "after another session was closed")
            with self.open(model) as third:
                require_answer(third, model, model.inputs(3), "in a session opened later")

    @promise
    def test_closing_during_calls_is_safe(self) -> None:
        """Finish calls that run while the session is closed, or refuse them with SessionClosed."""
        model = zoo_model("attention")
        inputs = model.inputs(1)
        session = self.open(model)
        errors: list[BaseException] = []
        begun = threading.Barrier(4)

        def use() -> None:
            begun.wait(_PATIENCE_S)
            try:
                for _ in range(10_000):
                    call(session, inputs)
            except SessionClosed:
                return
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
                errors.append(error)

        threads = [threading.Thread(target=use) for _ in range(3)]
        for thread in threads:
            thread.start()
        begun.wait(_PATIENCE_S)
        session.close()
        for thread in threads:
            thread.join(_PATIENCE_S)
        assert not any(thread.is_alive() for thread in threads), "a call never ended after closing"
        assert not errors, f"a call raised {errors[0]!r} while the session was closed"

    @promise
    def test_a_forked_child_is_told(self) -> None:
        """Answer a forked child's call with SessionForked, and go on working in the parent."""
        model = zoo_model("perceptron")
        with self.open(model) as session:
            require_answer(session, model, model.inputs(1))
            told = _in_child(lambda: _outcome(session, model.inputs(1)))
            assert told == "SessionForked", f"in a forked child a call ended with {told}"
            require_answer(session, model, model.inputs(2), "in the parent, after a fork")


class _Seen:
    """A runner that notes that it was closed, and whose inner runner can be watched."""

    def __init__(self, inner: Any, runners: list[weakref.ref[Any]], closed: list[bool]) -> None:
        self._inner = inner
        self._closed = closed
        runners.append(weakref.ref(self))

    def __call__(self, *inputs: Any) -> Any:
        return self._inner(*inputs)

    def close(self) -> None:
        self._closed.append(True)
        self._inner.close()


def _outcome(session: Session, inputs: Any) -> str:
    try:
        call(session, inputs)
    except BaseException as error:  # noqa: BLE001 - the parent judges it
        return type(error).__name__
    return "an answer"


def _in_child(action: Callable[[], str]) -> str:
    """Run something in a forked child and return what it says."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # threads are the reason for the warning, and the child here starts nothing
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            os.write(writing, action().encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        if not select.select([reading], [], [], _PATIENCE_S)[0]:
            os.kill(child, signal.SIGKILL)
            return "no answer within half a minute"
        return os.read(reading, 1000).decode() or "a crash"
    finally:
        os.close(reading)
        os.waitpid(child, 0)
