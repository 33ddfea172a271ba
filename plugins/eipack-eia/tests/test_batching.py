"""Calls of several clients as one: which join, what each gets, and what is never joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import monotonic, perf_counter_ns, sleep
from typing import Any, Self, cast

import pytest
import torch
from attrs import define, field
from eipack_eia import attached
from eipack_eia.server.batching import Batching, Joins, Sharing
from eipack_eia.server.models import Model
from eipack_eia.server.proving import Prover
from eipack_eia.server.scheduler import ClientGone, Job, Scheduler
from torch import Tensor, nn

import eipack
from eipack.errors import DeadlineExceeded, SignatureMismatch

from .conftest import Served, serving

PATIENCE_S = 10.0
POISON = -7.0
HOLD = -1.0
SECOND_NS = 1_000_000_000
UP_TO_EIGHT = Sharing(8, open=True)
AT_ONCE = Batching(8)


@define(eq=False)
class Fake:
    """Stands for a model and its session: it adds one to each row, and keeps what it was given.

    A call that begins with `HOLD` runs until `release` is set; rows of `POISON` make a call fail.
    """

    name: str = "fake"
    most_together: int = 1000
    sharing: Sharing = UP_TO_EIGHT
    ran: list[list[float]] = field(factory=list)
    release: Event = field(factory=Event)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run_flat(self, x: Tensor) -> tuple[Tensor, ...]:
        self.ran.append(x[:, 0].tolist())
        if x[0, 0] == HOLD:
            assert self.release.wait(PATIENCE_S)
        if (x == POISON).any():
            raise SignatureMismatch("poison")
        if len(x) > self.most_together:
            raise MemoryError
        return (x + 1,)


@define(eq=False)
class Crowd:
    """Requests that queue up behind one that holds the only worker, until `go`."""

    scheduler: Scheduler
    model: Fake
    threads: list[Thread] = field(factory=list)

    def hold(self) -> None:
        self.send(HOLD, client="holder", joins=None)
        wait_until(lambda: self.model.ran == [[HOLD]])

    def send(self, *rows: float, **given: Any) -> Job:
        one = job(self.model, *rows, **given)
        waiting = self.scheduler.waiting

        def work() -> None:
            try:
                self.scheduler.run(one)
            except Exception:  # noqa: BLE001 - the job keeps it
                pass
            finally:
                self.scheduler.leave()

        thread = Thread(target=work, daemon=True)
        self.threads.append(thread)
        thread.start()
        if len(self.threads) > 1:
            wait_until(lambda: self.scheduler.waiting > waiting or not thread.is_alive())
        return one

    def go(self) -> list[list[float]]:
        """Let all of them run, and return what was run after the one that held them up."""
        self.model.release.set()
        for thread in self.threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        return self.model.ran[1:]


def job(model: Fake, *rows: float, client: str = "a", **given: Any) -> Job:
    x = torch.tensor(rows)[:, None]
    joins = given.pop("joins", Joins("same", len(rows), 32))
    leading = 0 if joins is None else len(rows)
    return Job(
        cast("Model", model), (x,), client, perf_counter_ns(), joins=joins, rows=leading, **given
    )


def wait_until(true: Callable[[], bool]) -> None:
    end = monotonic() + PATIENCE_S
    while not true():
        assert monotonic() < end
        sleep(0.001)


@pytest.fixture
def make_crowd() -> Iterator[Callable[..., Crowd]]:
    made: list[Crowd] = []

    def make(batching: Batching | None = AT_ONCE, **given: Any) -> Crowd:
        made.append(Crowd(Scheduler(1, 64, batching), Fake(**given)))
        made[-1].hold()
        return made[-1]

    yield make
    for crowd in made:
        crowd.go()
        crowd.scheduler.stop()


@pytest.fixture
def crowd(make_crowd: Callable[..., Crowd]) -> Crowd:
    return make_crowd()


def answers(*jobs: Job) -> list[list[float]]:
    return [one.result()[0][:, 0].tolist() for one in jobs]


class TestWhichJoin:
    def test_calls_that_wait_run_as_one_and_each_gets_its_own_rows(self, crowd: Crowd) -> None:
        jobs = [
            crowd.send(1, client="a"),
            crowd.send(2, 3, client="b"),
            crowd.send(4, client="c"),
        ]
        assert crowd.go() == [[1, 2, 3, 4]]
        assert answers(*jobs) == [[2], [3, 4], [5]]

    def test_an_execution_is_counted_once_with_its_rows(self, crowd: Crowd) -> None:
        jobs = [crowd.send(1, client="a"), crowd.send(2, client="b")]
        crowd.go()
        assert [one.rows for one in jobs] == [2, None]

    def test_without_batches_each_runs_alone(self, make_crowd: Callable[..., Crowd]) -> None:
        crowd = make_crowd(batching=None)
        crowd.send(1, client="a")
        crowd.send(2, client="b")
        assert crowd.go() == [[1], [2]]

    def test_calls_of_other_sizes_run_apart(self, crowd: Crowd) -> None:
        crowd.send(1, client="a")
        crowd.send(2, client="b", joins=Joins("other", 1, 32))
        crowd.send(3, client="c")
        assert crowd.go() == [[1, 3], [2]]

    def test_calls_of_another_model_run_apart(self, crowd: Crowd) -> None:
        other = Fake("other")
        crowd.send(1, client="a")
        crowd.model, model = other, crowd.model
        crowd.send(2, client="b")
        crowd.model = model
        assert crowd.go() == [[1]]
        assert other.ran == [[2]]

    @pytest.mark.parametrize(
        ("sharing", "most", "expected"),
        [(3, 32, [[1, 2, 3], [4]]), (8, 2, [[1, 2], [3, 4]])],
        ids=["by the model", "by the sizes of the call"],
    )
    def test_a_batch_has_at_most_so_many_rows(
        self, make_crowd: Callable[..., Crowd], sharing: int, most: int, expected: list[list[float]]
    ) -> None:
        crowd = make_crowd(sharing=Sharing(sharing, open=True))
        for number, client in enumerate("abcd", 1):
            crowd.send(number, client=client, joins=Joins("same", 1, most))
        assert crowd.go() == expected

    def test_clients_take_turns_in_a_batch(self, make_crowd: Callable[..., Crowd]) -> None:
        crowd = make_crowd(sharing=Sharing(4, open=True))
        for number in (1, 2, 3, 4, 5):
            crowd.send(number, client="flood")
        crowd.send(10, client="light")
        first, second = crowd.go()
        assert first == [1, 10, 2, 3]
        assert second == [4, 5]


class TestWaiting:
    def test_a_call_waits_for_others_as_long_as_it_was_told(
        self, make_crowd: Callable[..., Crowd]
    ) -> None:
        crowd = make_crowd(Batching(8, 5 * SECOND_NS), sharing=Sharing(2, open=True))
        crowd.send(1, client="a")
        crowd.model.release.set()
        wait_until(lambda: not crowd.scheduler.waiting)
        crowd.send(2, client="b")
        with_others = crowd.go()
        assert with_others == [[1, 2]]

    def test_a_full_batch_waits_no_longer(self, make_crowd: Callable[..., Crowd]) -> None:
        crowd = make_crowd(Batching(8, 60 * SECOND_NS), sharing=Sharing(2, open=True))
        crowd.send(1, client="a")
        crowd.send(2, client="b")
        assert crowd.go() == [[1, 2]]

    def test_a_call_that_has_to_hurry_does_not_wait(self, make_crowd: Callable[..., Crowd]) -> None:
        crowd = make_crowd(Batching(8, 60 * SECOND_NS))
        hurried = crowd.send(1, deadline_ns=perf_counter_ns() + 30 * SECOND_NS)
        assert crowd.go() == [[1]]
        assert answers(hurried) == [[2]]

    def test_a_call_of_another_model_is_not_held_up(self, make_crowd: Callable[..., Crowd]) -> None:
        crowd = make_crowd(Batching(8, 60 * SECOND_NS))
        crowd.send(1, client="a")
        crowd.send(2, client="b", joins=None)
        assert crowd.go() == [[1], [2]]


class TestFailing:
    def test_a_call_that_fails_harms_no_other(self, crowd: Crowd) -> None:
        good, bad, better = (
            crowd.send(value, client=client)
            for value, client in ((1, "a"), (POISON, "b"), (3, "c"))
        )
        assert crowd.go() == [[1, POISON, 3], [1], [POISON], [3]]
        assert answers(good, better) == [[2], [4]]
        with pytest.raises(SignatureMismatch, match="poison"):
            bad.result()

    def test_one_bad_call_makes_no_batches_smaller(self, crowd: Crowd) -> None:
        crowd.send(1, client="a")
        crowd.send(POISON, client="b")
        crowd.go()
        assert crowd.model.sharing == Sharing(8, open=True)

    def test_batches_become_smaller_where_only_the_batch_fails(
        self, make_crowd: Callable[..., Crowd]
    ) -> None:
        crowd = make_crowd(most_together=2)
        jobs = [crowd.send(number, client=client) for number, client in enumerate("abcd")]
        crowd.go()
        assert answers(*jobs) == [[1], [2], [3], [4]]
        assert crowd.model.sharing == Sharing(2, open=True)

    def test_no_batches_are_made_where_the_smallest_fails(
        self, make_crowd: Callable[..., Crowd]
    ) -> None:
        crowd = make_crowd(most_together=1)
        crowd.send(1, client="a")
        crowd.send(2, client="b")
        crowd.go()
        assert crowd.model.sharing.rows == 0
        assert crowd.model.sharing.reason == "a batch of 2 rows failed whose calls run alone"

    def test_whom_nobody_waits_for_is_left_out(self, crowd: Crowd) -> None:
        late = crowd.send(1, client="a", deadline_ns=perf_counter_ns())
        gone = crowd.send(2, client="b", alive=lambda: False)
        there = crowd.send(3, client="c")
        assert crowd.go() == [[3]]
        assert answers(there) == [[4]]
        with pytest.raises(DeadlineExceeded):
            late.result()
        with pytest.raises(ClientGone):
            gone.result()


class Normalised(nn.Module):
    """A model whose rows are not independent."""

    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(0)


class Sine(nn.Module):
    """A model whose rows are independent, until an engine mixes them."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sin()


def export(folder: Path, model: nn.Module, **given: Any) -> Path:
    batch = torch.export.Dim("batch", min=1, max=16)
    package = eipack.export(
        model.eval(),
        (torch.linspace(-1, 1, 8).reshape(2, 4),),
        dynamic_shapes=({0: batch},),
        programs=["torchscript"],
        **given,
    )
    return package.save(folder / f"{type(model).__name__}.eipack")


def proved(path: Path, most: int = 8) -> Sharing:
    """Load a package as an accelerator does, and return what was found out of its rows."""
    scheduler = Scheduler(1, 64, Batching(most))
    with eipack.load(path, "cpu") as session:
        record = session.package.programs[0]
        model = Model(path.stem, "0" * 8, record, session, 0)
        Prover(scheduler, most).consider(model)
        wait_until(lambda: "is being shown" not in (model.sharing.reason or ""))
    scheduler.stop()
    return model.sharing


class TestProving:
    def test_rows_that_are_independent_may_share_a_batch(self, tmp_path: Path) -> None:
        assert proved(export(tmp_path, nn.Linear(4, 3))) == Sharing(8, open=True)

    def test_rows_that_are_not_never_may(self, tmp_path: Path) -> None:
        sharing = proved(export(tmp_path, Normalised()))
        assert not sharing.open
        assert sharing.reason == "its package does not say that rows are independent"

    def test_what_the_package_says_is_not_believed_of_this_engine(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run_flat(_: eipack.Session, x: Tensor) -> tuple[Tensor, ...]:
            return (x.sin() if len(x) < 4 else x.sin() + x.mean(0),)

        path = export(tmp_path, Sine())
        monkeypatch.setattr(eipack.Session, "run_flat", run_flat)
        sharing = proved(path)
        assert not sharing.open
        assert sharing.reason is not None

    def test_batches_are_no_larger_than_the_declared_dimension(self, tmp_path: Path) -> None:
        assert proved(export(tmp_path, nn.Linear(4, 3)), most=1000).rows == 16


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Path:
    """Package a model that takes long enough for calls to meet in the queue."""
    torch.manual_seed(0)
    layers = [nn.Linear(4, 1500), nn.ReLU(), nn.Linear(1500, 1500), nn.Linear(1500, 4)]
    return export(tmp_path_factory.mktemp("batches"), nn.Sequential(*layers), name="wide")


class TestServer:
    """A whole accelerator in a process of its own."""

    def test_clients_at_the_same_time_share_executions_and_get_their_answers(
        self, path: Path, tmp_path: Path
    ) -> None:
        with opened(tmp_path / "store", path, "--max-batch", "8") as (served, session):
            name = named(served, "wide")
            wait_until(lambda: described(served, name)["batching"] == "on")
            assert described(served, name)["batch_rows"] == 8
            inputs = torch.linspace(-2, 2, 320).reshape(80, 1, 4)
            with eipack.load(path, "cpu") as local, ThreadPoolExecutor(8) as pool:
                for x, answer in zip(inputs, pool.map(session, inputs), strict=True):
                    torch.testing.assert_close(answer, local(x), rtol=1e-4, atol=1e-5)
            stats = served.control.json("GET", f"v2/models/{name}/stats")["model_stats"][0]
            assert stats["execution_count"] < stats["inference_count"]
            sizes = [one["batch_size"] for one in stats["batch_stats"]]
            assert max(sizes) > 1
            assert all(size <= 8 for size in sizes)

    def test_none_are_made_unless_asked_for(self, path: Path, tmp_path: Path) -> None:
        with opened(tmp_path / "store", path) as (served, session):
            session(torch.zeros(1, 4))
            document = served.control.json("GET", f"v2/models/{named(served, 'wide')}")
            assert "parameters" not in document


@contextmanager
def opened(store: Path, path: Path, *words: str) -> Iterator[tuple[Served, eipack.Session]]:
    """Serve, attach, and open a package there."""
    with serving(store, *words) as served:
        one = served.attach()
        try:
            with eipack.load(path, f"eia:{one.ordinal}") as session:
                yield served, session
        finally:
            attached.detach(one.id)


def named(served: Served, stem: str) -> str:
    index = served.control.json("POST", "v2/repository/index", {})
    (name,) = (one["name"] for one in index if one["name"].startswith(stem))
    return str(name)


def described(served: Served, name: str) -> dict[str, Any]:
    found = served.control.json("GET", f"v2/models/{name}")["parameters"]
    assert isinstance(found, dict)
    return found
