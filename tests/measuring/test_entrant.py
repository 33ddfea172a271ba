"""How a program on a target enters a run, by processes that only pretend."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import asdict

from eipack.children import Lost
from eipack.errors import (
    AcceleratorUnavailable,
    DigestMismatch,
    EipackError,
    PackageChanged,
    ProgramNotFound,
)
from eipack.measuring.entrant import Asked, Entrant
from eipack.measuring.scenario import Scenario
from eipack.target import Target

from .test_race import ORIGIN

ASKED = Asked("small.eipack", ORIGIN.digest)


class Opening:
    """Open as a process would, or fail at it."""

    def __init__(self, failure: Lost | None = None) -> None:
        self.failure = failure
        self.asked: list[str] = []
        self.ended = False

    def call(self, do: str, within_s: float, **asked: Any) -> dict[str, Any]:
        self.asked.append(do)
        if self.failure is not None:
            raise self.failure
        return {"load_ns": 2_000_000, "first_ns": 1_000_000} if do == "open" else asdict(ORIGIN)

    def end(self) -> None:
        self.ended = True


def enter(host: Opening, asked: Asked = ASKED) -> Entrant:
    entrant = Entrant(Target("cpu"), None)
    entrant.enter(lambda: host, asked, [Scenario()])
    return entrant


def test_what_opens_has_its_times_and_stays() -> None:
    host = Opening()
    entrant = enter(host)
    assert (entrant.load_ms, entrant.first_ms, entrant.origin) == (2.0, 1.0, ORIGIN)
    assert host.asked == ["open", "describe"]
    assert not host.ended


def test_what_does_not_open_is_lost_and_its_process_ends() -> None:
    host = Opening(Lost("failed", "out of memory"))
    entrant = enter(host)
    assert host.ended
    with pytest.raises(Lost, match="out of memory"):
        entrant.ask("settle", 1.0)


@pytest.mark.parametrize("error", [AcceleratorUnavailable("gone"), ProgramNotFound("none")])
def test_an_error_of_a_target_or_a_program_is_its_own(error: EipackError) -> None:
    entrant = enter(Opening(Lost("failed", str(error), error)))
    assert entrant.lost is not None
    assert entrant.lost.error is error


def test_an_error_of_the_package_is_everybodys() -> None:
    error = DigestMismatch("a byte differs")
    with pytest.raises(DigestMismatch, match="a byte differs"):
        enter(Opening(Lost("failed", str(error), error)))


def test_another_package_in_its_place_is_noticed() -> None:
    with pytest.raises(PackageChanged, match="benchmark it again"):
        enter(Opening(), Asked("small.eipack", "blake3:1"))
