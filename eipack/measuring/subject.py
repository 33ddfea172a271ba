"""One program on one target in the process that runs it: opened, checked, warmed up and timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from eipack.measuring.given import read_inputs
from eipack.measuring.loop import time_calls
from eipack.measuring.scenario import Scenario

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.measuring.parts import Splitter
    from eipack.measuring.resources import Meter
    from eipack.session import Session
    from eipack.target import Target

Answer = dict[str, Any]
Arguments = tuple[Sequence[Any], Mapping[str, Any]]


class Subject:
    """Do what is asked with one session; each method takes a request and returns an answer.

    Requests and answers are plain values, so that the subject can live in a process of its own.
    `row` in them is the number of one of the scenarios that `open` was given.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._session: Session | None = None
        self._scenarios: list[Scenario] = []
        self._meters: list[Meter] = []
        self._splitters: list[Splitter] = []
        self._leaves: tuple[Tensor, ...] = ()
        self._known: dict[int | None, Arguments] = {}

    def open(self, asked: Mapping[str, Any]) -> Answer:
        """Load the package as a user would, and make the first call."""
        from eipack.loading import load
        from eipack.registry import is_auto, locate
        from eipack.target import Target
        from eipack.tuning.choosing import default_of

        target = Target.parse(asked["target"])
        # Importing a plugin and its engine is no part of loading a package.
        _, place = locate(default_of(target) if is_auto(target) else target)
        self._scenarios = [Scenario(**one) for one in asked["scenarios"]]
        self._begin(place)
        began = perf_counter_ns()
        session = self._session = load(
            asked["package"],
            target,
            program=asked["program"],
            precision=asked["precision"],
            threads=asked["threads"],
            options=asked["options"],
            trust=asked["trust"],
        )
        self._stack.callback(session.close)
        load_ns = perf_counter_ns() - began
        self._leaves = read_inputs(session.package, asked["inputs"])
        first_ns = time_calls(session, *self._arguments(None), 1)[0]
        return {"load_ns": load_ns, "first_ns": first_ns}

    def _begin(self, place: Target) -> None:
        """Note what memory is in use before anything is loaded."""
        from eipack.measuring.resources import Meter

        self._meters = [self._stack.enter_context(Meter(place)) for _ in self._scenarios]
        for meter in self._meters:
            meter.start()

    def describe(self, asked: Mapping[str, Any]) -> Answer:
        """Say what was opened and where it really runs, once its outputs are the recorded ones.

        Raises:
            ParityFailed: They differ by more than the published tolerance.
        """
        from eipack.measuring.origin import hold, origin_of
        from eipack.measuring.parts import Splitter

        for meter in self._meters:
            meter.stop(0)
        self._splitters = [Splitter(self._open) for _ in self._scenarios]
        if self._open.loss is None:  # else loading has held it to its precision's tolerance
            hold(self._open)
        return origin_of(self._open, self._leaves)

    def settle(self, asked: Mapping[str, Any]) -> Answer:
        """Warm up for a scenario; an open loop's by one caller, who finds out how long calls take.

        `pace_ns` is the time from one answer to the next by then.
        """
        from eipack.measuring.batches import rows
        from eipack.measuring.offering import offer
        from eipack.measuring.warming import warm_up

        scenario = self._scenarios[asked["row"]]
        arguments = self._arguments(scenario.batch)
        alike = Scenario() if scenario.name == "open-loop" else scenario
        paces: list[float] = []

        def make(calls: int) -> Sequence[int]:
            offered = offer(self._open, arguments, alike, calls=calls)
            paces.append(offered.elapsed_ns / calls)
            return offered.samples_ns

        done, _ = warm_up(make)
        return {
            "calls": done.calls,
            "ms": done.ms,
            "settled": done.settled,
            "pace_ns": paces[-1],
            "rows": rows(self._open.signature, arguments),
        }

    def turn(self, asked: Mapping[str, Any]) -> Answer:
        """Offer calls as the scenario says, after `lead` calls that do not count."""
        from eipack.measuring.turn import take

        row = asked["row"]
        arguments = self._arguments(self._scenarios[row].batch)
        meter, splitter = self._meters[row], self._splitters[row]
        return take(self._open, arguments, self._scenarios[row], meter, splitter, asked)

    def figures(self, asked: Mapping[str, Any]) -> Answer:
        """Say what the calls of a scenario took beside time, and where their time went."""
        from attrs import asdict

        parts = self._splitters[asked["row"]].parts()
        return {
            "resources": asdict(self._meters[asked["row"]].resources()),
            "parts": None if parts is None else asdict(parts),
        }

    def close(self, asked: Mapping[str, Any]) -> Answer:
        """Close the session."""
        self._stack.close()
        return {}

    def _arguments(self, batch: int | None) -> Arguments:
        """Return the same tensors for every turn at a size of the batch."""
        from eipack.measuring.batches import resized

        if batch not in self._known:
            arguments: Arguments = self._open.signature.nest(self._leaves)
            if batch is not None:
                arguments = resized(self._open.signature, arguments, batch)
            self._known[batch] = arguments
        return self._known[batch]

    @property
    def _open(self) -> Session:
        if self._session is None:
            raise RuntimeError("nothing is open")
        return self._session
