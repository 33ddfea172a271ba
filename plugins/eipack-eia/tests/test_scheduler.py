"""Who runs next: on which thread, in which order, and what is not run at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event, Lock, Thread, get_ident
from time import monotonic, perf_counter_ns, sleep
from typing import Any, Self, cast

import pytest
import torch
from attrs import define, field
from eipack_eia.server.models import Model
from eipack_eia.server.pools import give_back
from eipack_eia.server.scheduler import ClientGone, Job, Scheduler
from torch import Tensor

from eipack.errors import (
    AcceleratorOverloaded,
    DeadlineExceeded,
    ExecutionFailed,
    SignatureMismatch,
)

PATIENCE_S = 10.0
HOLD = -1


@define(eq=False)
class Fake:
    """Stands for a model and its session; a call with `HOLD` runs until `release` is set."""

    name: str = "fake"
    error: BaseException | None = None
    ran: list[int] = field(factory=list)
    threads: list[int] = field(factory=list)
    most: int = 0
    release: Event = field(factory=Event)
    _now: int = 0
    _lock: Lock = field(factory=Lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run_flat(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        number = int(leaves[0])
        with self._lock:
            self.ran.append(number)
            self.threads.append(get_ident())
            self._now += 1
            self.most = max(self.most, self._now)
        if number == HOLD:
            assert self.release.wait(PATIENCE_S)
        with self._lock:
            self._now -= 1
        if self.error is not None:
            raise self.error
        return (leaves[0] + 1,)


@define(eq=False)
class Asking:
    """A request on a thread of its own, as each connection has one."""

    thread: Thread
    outputs: tuple[Tensor, ...] = ()
    error: BaseException | None = None

    def wait(self) -> Asking:
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        return self


Ask = Callable[..., Asking]


def job(model: Fake, number: int = 0, client: str = "a", **given: Any) -> Job:
    leaves = (torch.tensor(number),)
    return Job(cast("Model", model), leaves, client, perf_counter_ns(), **given)


def wait_until(true: Callable[[], bool]) -> None:
    end = monotonic() + PATIENCE_S
    while not true():
        assert monotonic() < end
        sleep(0.001)


@pytest.fixture
def model() -> Fake:
    return Fake()


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    one = Scheduler(workers=1, queue=4)
    yield one
    one.stop()


@pytest.fixture
def ask(model: Fake, scheduler: Scheduler) -> Iterator[Ask]:
    """Run a request on a thread; one that has to wait is in the queue when this returns."""
    asked: list[Asking] = []

    def start(number: int, client: str = "a", **given: Any) -> Asking:
        def work() -> None:
            try:
                one.outputs = scheduler.run(job(model, number, client, **given))
            except BaseException as error:  # noqa: BLE001 - the test's to look at
                one.error = error
            finally:
                scheduler.leave()

        one = Asking(Thread(target=work, daemon=True))
        waiting, running = scheduler.waiting, len(model.ran)
        one.thread.start()
        asked.append(one)
        wait_until(
            lambda: (
                scheduler.waiting > waiting
                or len(model.ran) > running
                or not one.thread.is_alive()
                or any(not other.thread.is_alive() for other in asked)
            )
        )
        return one

    yield start
    model.release.set()
    for one in asked:
        one.wait()


def test_a_call_that_nothing_is_in_the_way_of_runs_on_the_thread_that_asks(
    model: Fake, scheduler: Scheduler
) -> None:
    assert scheduler.run(job(model, 7)) == (torch.tensor(8),)
    assert model.threads == [get_ident()]


def test_threads_of_further_connections_leave_their_calls_to_a_worker(
    model: Fake, scheduler: Scheduler, ask: Ask
) -> None:
    scheduler.run(job(model, 0))
    ask(1).wait()
    ask(2).wait()
    assert get_ident() not in model.threads[1:]
    assert len(set(model.threads[1:])) == 1


def test_the_thread_of_a_new_connection_takes_the_place_of_one_that_ended(
    model: Fake, scheduler: Scheduler, ask: Ask
) -> None:
    one = ask(1).wait()
    scheduler.run(job(model, 2))
    assert model.threads == [one.thread.ident, get_ident()]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_no_more_calls_run_at_once_than_may(model: Fake, workers: int) -> None:
    scheduler = Scheduler(workers, queue=64)

    def work() -> None:
        for number in range(20):
            scheduler.run(job(model, number, str(get_ident())))

    threads = [Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    scheduler.stop()
    assert len(model.ran) == 160
    assert model.most <= workers


def test_one_request_more_than_may_wait_is_refused_at_once(
    model: Fake, scheduler: Scheduler, ask: Ask
) -> None:
    ask(HOLD)
    for number in range(4):
        ask(number)
    with pytest.raises(AcceleratorOverloaded, match="4 requests wait already, and 4 may"):
        scheduler.run(job(model, 99))
    model.release.set()
    wait_until(lambda: scheduler.waiting == 0)
    assert 99 not in model.ran


def test_clients_take_turns_however_many_requests_each_has(
    model: Fake, scheduler: Scheduler, ask: Ask
) -> None:
    scheduler.queue = 16
    asked = [ask(HOLD, "flooding")]
    asked += [ask(number, "flooding") for number in range(1, 6)]
    asked += [ask(100, "light"), ask(101, "light"), ask(200, "other")]
    model.release.set()
    for one in asked:
        one.wait()
    assert model.ran == [HOLD, 1, 100, 200, 2, 101, 3, 4, 5]


def test_a_client_that_fills_the_queue_keeps_no_other_out(
    model: Fake, scheduler: Scheduler, ask: Ask
) -> None:
    ask(HOLD, "flooding")
    flood = [ask(number, "flooding") for number in range(1, 5)]
    light = ask(100, "light")
    assert isinstance(flood[-1].wait().error, AcceleratorOverloaded)
    model.release.set()
    assert light.wait().outputs == (torch.tensor(101),)
    assert [one.wait().error for one in flood[:-1]] == [None] * 3
    assert model.ran == [HOLD, 1, 100, 2, 3]


def test_a_client_displaces_nobody_who_has_no_more_than_itself(
    model: Fake, scheduler: Scheduler, ask: Ask
) -> None:
    asked = [ask(HOLD, "a"), ask(1, "a"), ask(2, "a"), ask(3, "b"), ask(4, "b")]
    with pytest.raises(AcceleratorOverloaded):
        scheduler.run(job(model, 99, "b"))
    model.release.set()
    assert [one.wait().error for one in asked] == [None] * 5


def test_what_waited_past_its_deadline_is_not_run(model: Fake, ask: Ask) -> None:
    ask(HOLD)
    late = ask(1, deadline_ns=perf_counter_ns() + 5_000_000)
    in_time = ask(2, deadline_ns=perf_counter_ns() + int(PATIENCE_S * 1e9))
    sleep(0.02)
    model.release.set()
    error = late.wait().error
    assert isinstance(error, DeadlineExceeded)
    assert "it was not run" in str(error)
    assert in_time.wait().error is None
    assert model.ran == [HOLD, 2]


def test_what_came_past_its_deadline_is_not_run_either(model: Fake, scheduler: Scheduler) -> None:
    with pytest.raises(DeadlineExceeded):
        scheduler.run(job(model, 1, deadline_ns=perf_counter_ns() - 1))
    assert model.ran == []


def test_a_request_whose_client_has_gone_is_not_run(model: Fake, ask: Ask) -> None:
    asked = [ask(HOLD), ask(1, alive=lambda: False), ask(2)]
    model.release.set()
    assert [type(one.wait().error) for one in asked] == [type(None), ClientGone, type(None)]
    assert model.ran == [HOLD, 2]


@pytest.mark.parametrize("waits", [False, True])
def test_an_error_of_eipack_reaches_whoever_asked(model: Fake, ask: Ask, waits: bool) -> None:
    if waits:
        ask(HOLD)
    model.error = SignatureMismatch("input 'x': rank 1, expected 2")
    one = ask(1)
    model.release.set()
    assert one.wait().error is model.error


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("error", [RuntimeError("secret"), MemoryError(), SystemExit(1)], ids=repr)
def test_any_other_error_says_what_failed_and_the_next_call_runs(
    model: Fake, ask: Ask, error: BaseException, waits: bool
) -> None:
    if waits:
        ask(HOLD)
    model.error = error
    one = ask(1)
    model.release.set()
    found = one.wait().error
    assert isinstance(found, ExecutionFailed)
    assert str(found) == f"fake failed: {type(error).__name__}"
    assert found.__cause__ is error
    model.error = None
    assert ask(2).wait().error is None


def test_it_tells_how_many_wait_and_how_long_the_oldest_call_has_run(
    model: Fake, scheduler: Scheduler, ask: Ask
) -> None:
    assert (scheduler.waiting, scheduler.longest_ns()) == (0, 0)
    asked = [ask(HOLD), ask(1), ask(2)]
    sleep(0.01)
    assert scheduler.waiting == 2
    assert 10_000_000 <= scheduler.longest_ns() < PATIENCE_S * 1e9
    model.release.set()
    for one in asked:
        one.wait()
    wait_until(lambda: (scheduler.waiting, scheduler.longest_ns()) == (0, 0))


def test_what_waits_when_it_stops_is_still_run(model: Fake, scheduler: Scheduler, ask: Ask) -> None:
    asked = [ask(HOLD), ask(1), ask(2)]
    scheduler.stop()
    with pytest.raises(AcceleratorOverloaded):
        scheduler.run(job(model, 99))
    model.release.set()
    assert [one.wait().error for one in asked] == [None] * 3
    assert model.ran == [HOLD, 1, 2]


def test_its_workers_end_when_it_stops(model: Fake, scheduler: Scheduler, ask: Ask) -> None:
    asked = [ask(HOLD), ask(1)]
    model.release.set()
    for one in asked:
        one.wait()
    [worker] = scheduler._threads
    scheduler.stop()
    worker.join(PATIENCE_S)
    assert not worker.is_alive()


class TestPools:
    """Threads that run calls on the CPU have pools of OpenMP's, and there are to be few."""

    @pytest.fixture
    def given_back(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        found: list[int] = []
        monkeypatch.setattr(
            "eipack_eia.server.scheduler.give_back", lambda: found.append(get_ident())
        )
        return found

    def test_calls_of_one_connection_run_on_its_thread(
        self, model: Fake, given_back: list[int]
    ) -> None:
        scheduler = Scheduler(pooled=True)
        for number in range(3):
            scheduler.run(job(model, number))
        assert set(model.threads) == {get_ident()}
        assert not given_back
        scheduler.leave()
        scheduler.stop()

    def test_those_of_several_run_on_the_worker_until_they_are_gone(
        self, model: Fake, given_back: list[int]
    ) -> None:
        scheduler = Scheduler(pooled=True)
        scheduler.run(job(model, 1))
        there, leave = Event(), Event()

        def other() -> None:
            scheduler.run(job(model, 2, "b"))
            there.set()
            assert leave.wait(PATIENCE_S)
            scheduler.leave()

        thread = Thread(target=other, daemon=True)
        thread.start()
        assert there.wait(PATIENCE_S)
        scheduler.run(job(model, 3))
        here, worker, again = model.threads
        assert here == get_ident()
        assert worker == again
        assert worker not in (here, thread.ident)
        assert given_back == [here]

        leave.set()
        thread.join(PATIENCE_S)
        wait_until(lambda: worker in given_back)
        scheduler.run(job(model, 4))
        assert model.threads[-1] == here
        scheduler.leave()
        scheduler.stop()

    def test_torch_computes_on_after_its_pool_was_given_back(self) -> None:
        x = torch.ones(400, 400)
        expected = x @ x
        give_back()
        assert torch.equal(x @ x, expected)
