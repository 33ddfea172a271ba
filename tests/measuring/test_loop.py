from __future__ import annotations

import gc
from time import perf_counter_ns, sleep

import pytest

from eipack.measuring.loop import time_calls, without_garbage_collection


def test_a_sample_is_taken_for_every_call_and_is_in_ns() -> None:
    samples = time_calls(sleep, (0.002,), {}, 5)
    assert len(samples) == 5
    assert all(2_000_000 <= sample < 1_000_000_000 for sample in samples)


def test_arguments_reach_the_call_by_position_and_by_name() -> None:
    seen = []
    time_calls(lambda *args, **kwargs: seen.append((args, kwargs)), (1, 2), {"x": 3}, 2)
    assert seen == [((1, 2), {"x": 3})] * 2


def test_what_the_call_raises_leaves_the_loop() -> None:
    with pytest.raises(ZeroDivisionError):
        time_calls(lambda: 1 // 0, (), {}, 3)


def test_the_samples_add_up_to_no_more_than_the_time_that_passed() -> None:
    start = perf_counter_ns()
    samples = time_calls(lambda: sum(range(100)), (), {}, 1000)
    assert sum(samples) <= perf_counter_ns() - start


def test_garbage_is_not_collected_while_calls_are_timed_and_is_again_afterwards() -> None:
    with without_garbage_collection():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with without_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
