from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from statistics import fmean, median, pstdev
from threading import Lock
from time import perf_counter, perf_counter_ns, process_time, sleep
from typing import Any

import pytest

from eipack.measuring import offering_open
from eipack.measuring.offering import offer
from eipack.measuring.offering_open import poisson
from eipack.measuring.scenario import Scenario

NOTHING: Any = ((), {})


def open_loop(rate_per_s: float) -> Scenario:
    return Scenario("open-loop", rate_per_s=rate_per_s)


def closed_loop(concurrency: int) -> Scenario:
    return Scenario("closed-loop", concurrency=concurrency)


ALL = [Scenario(), Scenario("offline", batch=4), closed_loop(3), open_loop(2000.0)]


class Target:
    """A call that takes its time, and knows how many of it run at once."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.calls = self.running = self.most = 0
        self._seconds, self._lock = seconds, Lock()

    def __call__(self) -> None:
        with self._lock:
            self.calls += 1
            self.running += 1
            self.most = max(self.most, self.running)
        sleep(self._seconds)
        with self._lock:
            self.running -= 1


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def failing_at(number: int) -> Callable[[], None]:
    numbers = iter(range(1, 10**9))

    def call() -> None:
        if next(numbers) == number:
            raise ZeroDivisionError
        sleep(0.001)

    return call


@pytest.mark.parametrize("scenario", ALL, ids=str)
def test_as_many_calls_as_asked_for_are_measured_and_no_more(scenario: Scenario) -> None:
    target = Target()
    offered = offer(target, NOTHING, scenario, calls=50)
    assert len(offered.samples_ns) == len(offered.began_ns) == 50
    assert target.calls == offered.made == 50 + offered.discarded


@pytest.mark.parametrize("scenario", ALL, ids=str)
def test_calls_come_in_the_order_of_their_beginning_and_lie_within_the_run(
    scenario: Scenario,
) -> None:
    before_ns = perf_counter_ns()
    offered = offer(Target(0.001), NOTHING, scenario, calls=30)
    assert before_ns <= offered.start_ns <= perf_counter_ns() - offered.elapsed_ns
    ends = [b + s for b, s in zip(offered.began_ns, offered.samples_ns, strict=True)]
    assert list(offered.began_ns) == sorted(offered.began_ns)
    assert offered.began_ns[0] >= 0
    assert max(ends) <= offered.elapsed_ns
    assert min(offered.samples_ns) >= 1_000_000


@pytest.mark.parametrize("scenario", ALL, ids=str)
def test_a_run_ends_when_its_time_is_over(scenario: Scenario) -> None:
    began = perf_counter()
    offered = offer(Target(0.002), NOTHING, scenario, duration_s=0.2)
    assert 0.15 < perf_counter() - began < 1.5
    assert len(offered.samples_ns) > 10
    assert max(offered.began_ns) < 200_000_000


@pytest.mark.parametrize("scenario", ALL, ids=str)
def test_of_calls_and_time_the_first_to_be_over_ends_the_run(scenario: Scenario) -> None:
    assert len(offer(Target(), NOTHING, scenario, calls=5, duration_s=30).samples_ns) == 5
    few = offer(Target(0.005), NOTHING, scenario, calls=10**6, duration_s=0.05)
    assert 1 <= len(few.samples_ns) < 10**4


@pytest.mark.parametrize("scenario", ALL, ids=str)
def test_one_call_is_made_at_least(scenario: Scenario) -> None:
    assert len(offer(Target(), NOTHING, scenario, duration_s=1e-6).samples_ns) >= 1


@pytest.mark.parametrize("scenario", ALL, ids=str)
@pytest.mark.parametrize("number", [1, 20])
def test_the_first_error_ends_the_run_and_is_raised(scenario: Scenario, number: int) -> None:
    began = perf_counter()
    with pytest.raises(ZeroDivisionError):
        offer(failing_at(number), NOTHING, scenario, duration_s=20)
    assert perf_counter() - began < 2


@pytest.mark.parametrize("scenario", [closed_loop(4), open_loop(5.0)], ids=str)
def test_an_interrupt_ends_the_run_and_its_threads(scenario: Scenario) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            offer(Target(0.01), NOTHING, scenario, duration_s=20)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_arguments_reach_every_call_by_position_and_by_name() -> None:
    seen: list[Any] = []
    offer(lambda *a, **k: seen.append((a, k)), ((1,), {"x": 2}), closed_loop(2), calls=4)
    assert seen == [((1,), {"x": 2})] * 6


def test_a_closed_loop_keeps_exactly_so_many_calls_running() -> None:
    target = Target(0.02)
    offered = offer(target, NOTHING, closed_loop(4), calls=40)
    assert target.most == 4
    assert sum(offered.samples_ns) > 3 * offered.elapsed_ns


def test_a_threads_first_call_counts_in_no_figure() -> None:
    slow_first = threading.local()

    def call() -> None:
        if not getattr(slow_first, "done", False):
            slow_first.done = True
            sleep(0.1)

    offered = offer(call, NOTHING, closed_loop(3), calls=30)
    assert offered.discarded == 3
    assert max(offered.samples_ns) < 100_000_000


def test_an_open_loop_does_not_wait_for_answers() -> None:
    target = Target(0.1)
    offered = offer(target, NOTHING, open_loop(200.0), duration_s=0.4)
    assert target.most > 8
    assert median(offered.samples_ns) < 150_000_000


def test_calls_that_arrive_during_a_stall_count_their_waiting() -> None:
    one_at_a_time, numbers = Lock(), iter(range(10**6))

    def call() -> None:
        with one_at_a_time:
            sleep(0.4 if next(numbers) == 15 else 0)

    offered = offer(call, NOTHING, open_loop(200.0), calls=150)
    waited = [sample for sample in offered.samples_ns if sample > 100_000_000]
    assert len(waited) > 30  # about 60 arrive in the first 0.3 s of it; a closed loop sees 1


def test_a_call_begins_when_it_arrives_and_not_when_a_thread_takes_it() -> None:
    offered = offer(Target(), NOTHING, open_loop(500.0), calls=40, seed=3)
    assert offered.began_ns == poisson(500.0, 40, None, 3)


def test_an_open_loop_adds_little_to_a_latency() -> None:
    offered = offer(lambda: None, NOTHING, open_loop(200.0), calls=60)
    # Other processes may have the processor at some arrivals, though not at nine of ten.
    assert sorted(offered.samples_ns)[6] < 3_000_000


def test_waiting_for_arrivals_takes_little_of_the_processor() -> None:
    began = process_time()
    offer(lambda: None, NOTHING, open_loop(20.0), duration_s=1.0)
    assert process_time() - began < 0.4


def test_an_overloaded_run_ends_in_time_and_says_what_was_left_unanswered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(offering_open, "_DRAIN_NS", 200_000_000)
    target = Target(0.15)
    began = perf_counter()
    offered = offer(target, NOTHING, open_loop(3000.0), duration_s=0.3)
    assert perf_counter() - began < 3
    assert target.most <= 64
    assert 0 < offered.unanswered < len(offered.samples_ns)
    assert offered.made == target.calls
    assert min(offered.samples_ns[-offered.unanswered :]) >= 200_000_000
    answered = offered.samples_ns[: -offered.unanswered]
    assert max(answered) > 250_000_000  # those waited for one of 64 threads to be free
    assert offered.calls_per_s < 64 / 0.15


def test_arrivals_are_a_poisson_process() -> None:
    due = poisson(100.0, 20_000, None, 0)
    gaps = [after - before for before, after in zip((0, *due), due, strict=False)]
    assert fmean(gaps) == pytest.approx(1e7, rel=0.03)
    assert pstdev(gaps) == pytest.approx(1e7, rel=0.05)  # those of an even pace would have none
    below = sum(gap < 1e7 for gap in gaps) / len(gaps)
    assert below == pytest.approx(0.632, abs=0.02)


def test_a_seed_draws_the_same_arrivals_again_and_another_draws_others() -> None:
    assert poisson(50.0, 100, None, 7) == poisson(50.0, 100, None, 7)
    assert poisson(50.0, 100, None, 7) != poisson(50.0, 100, None, 8)


def test_arrivals_within_a_time_are_about_its_rate_times_as_many() -> None:
    counts = [len(poisson(100.0, None, 2.0, seed)) for seed in range(50)]
    assert fmean(counts) == pytest.approx(200, rel=0.05)
    assert all(poisson(100.0, None, 2.0, seed)[-1] < 2e9 for seed in range(50))


@pytest.mark.parametrize(
    ("scenario", "asked", "said"),
    [
        (Scenario(), {}, "calls, duration_s, or both"),
        (Scenario(), {"calls": 0}, "calls is 0"),
        (Scenario(), {"duration_s": 0.0}, "duration_s is 0"),
        (Scenario(), {"duration_s": float("nan")}, "duration_s is nan"),
        (closed_loop(0), {"calls": 1}, "concurrency is 0"),
        (Scenario("open-loop"), {"calls": 1}, "rate_per_s is None"),
        (open_loop(-1.0), {"calls": 1}, "rate_per_s is -1"),
        (open_loop(float("inf")), {"calls": 1}, "rate_per_s is inf"),
    ],
)
def test_what_means_nothing_is_refused(
    scenario: Scenario, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        offer(Target(), NOTHING, scenario, **asked)
