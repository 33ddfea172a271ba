"""`eipack.use` is a default, not a global."""

from __future__ import annotations

import asyncio
import threading

import pytest

import eipack
from eipack.errors import TargetSyntaxError
from eipack.target import Target


def test_the_default_is_the_cpu() -> None:
    assert eipack.current_target() == Target("cpu")


def test_it_nests_and_ends_with_its_block() -> None:
    with eipack.use("cuda:0"):
        with eipack.use("eia:1") as inner:
            assert eipack.current_target() == inner == Target("eia", None, 1)
        assert eipack.current_target() == Target("cuda", None, 0)
    assert eipack.current_target() == Target("cpu")


def test_an_error_in_the_block_ends_it_too() -> None:
    with pytest.raises(ZeroDivisionError), eipack.use("cuda:0"):
        raise ZeroDivisionError
    assert eipack.current_target() == Target("cpu")


def test_a_bad_target_changes_nothing() -> None:
    with pytest.raises(TargetSyntaxError), eipack.use("cpu:3"):
        pass
    assert eipack.current_target() == Target("cpu")


def test_threads_are_kept_apart() -> None:
    seen: list[Target] = []
    with eipack.use("cuda:0"):
        thread = threading.Thread(target=lambda: seen.append(eipack.current_target()))
        thread.start()
        thread.join()
    assert seen == [Target("cpu")]


def test_tasks_are_kept_apart() -> None:
    async def look(target: str, pause: float) -> Target:
        with eipack.use(target):
            await asyncio.sleep(pause)
            return eipack.current_target()

    async def both() -> list[Target]:
        return await asyncio.gather(look("cuda:0", 0.02), look("eia:1", 0.01))

    assert asyncio.run(both()) == [Target("cuda", None, 0), Target("eia", None, 1)]
