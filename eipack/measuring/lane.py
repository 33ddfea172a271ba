"""A row while it is measured: its warm-up, its turns, and what they gave."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from attrs import define, field

from eipack.children import Lost
from eipack.measuring.entrant import PATIENCE_S, Entrant
from eipack.measuring.plan import Plan, Turns, lead_of, pace_of
from eipack.measuring.report import Parts, Resources, Row, WarmUp
from eipack.measuring.scenario import Scenario

_CERTAINLY: Final = 10.0
"""How many times as long as they took so far, calls may take before a process counts as hanging."""
_WARM_UP_S: Final = 30.0
_FIGURES_S: Final = 10.0
_SEEDS: Final = 1 << 20


@define(eq=False)
class Lane:
    """A scenario of an entrant; a failure ends this lane, and with the process all of its lanes."""

    entrant: Entrant
    number: int
    scenario: Scenario
    lost: Lost | None = None
    warm_up: WarmUp | None = None
    cut: Turns = field(factory=lambda: Turns(1))
    pace_ns: float = 0.0
    rows_per_call: int | None = None
    samples_ns: list[int] = field(factory=list)
    began_ns: list[int] = field(factory=list)
    turns: list[int] = field(factory=list)
    elapsed_ns: int = 0
    discarded: int = 1  # the call whose outputs are checked
    unanswered: int = 0
    parts: Parts | None = None
    resources: Resources = field(factory=Resources)

    @property
    def failure(self) -> Lost | None:
        """Why there are no figures, None if there are."""
        return self.lost or self.entrant.lost

    @property
    def share(self) -> float:
        """How much of its measuring is done."""
        return len(self.turns) / self.cut.count

    def settle(self, plan: Plan) -> None:
        """Warm up, and cut the measuring into turns by how long calls take then."""
        within_s = PATIENCE_S + _WARM_UP_S + _CERTAINLY * (self.entrant.first_ms or 0.0) / 1e3
        try:
            found = self.entrant.ask("settle", within_s, row=self.number)
        except Lost as lost:
            self.lost = lost
            return
        self.warm_up = WarmUp(found["calls"], found["ms"], found["settled"])
        self.discarded += found["calls"]
        self.rows_per_call = found["rows"]
        self.pace_ns = pace_of(self.scenario, found["pace_ns"])
        self.cut = Turns.of(plan, self.scenario, self.pace_ns)

    def take_turn(self, plan: Plan, *, shared: bool) -> None:
        """Have calls timed; `shared` if somebody else had a turn since the last one."""
        calls = self.cut.calls
        if calls is not None:
            calls = min(calls, (plan.calls or calls) - len(self.samples_ns))
        needed_s = self.cut.seconds or (calls or 1) * self.pace_ns / 1e9
        try:
            found = self.entrant.ask(
                "turn",
                PATIENCE_S + _CERTAINLY * needed_s,
                row=self.number,
                calls=calls,
                seconds=self.cut.seconds,
                seed=plan.seed * _SEEDS + len(self.turns),
                lead=lead_of(self.scenario, self.pace_ns, shared=shared),
            )
        except Lost as lost:
            self.lost = lost
            return
        self.samples_ns += found["samples_ns"]
        self.began_ns += found["began_ns"]
        self.turns.append(len(found["samples_ns"]))
        self.elapsed_ns += found["elapsed_ns"]
        self.discarded += found["discarded"]
        self.unanswered += found["unanswered"]

    def finish(self) -> None:
        """Ask what the calls took beside time."""
        if self.failure is not None:
            return
        with suppress(Lost):  # the calls are measured, whatever becomes of the process now
            found = self.entrant.ask("figures", _FIGURES_S, row=self.number)
            self.resources = Resources(**found["resources"])
            self.parts = None if found["parts"] is None else Parts(**found["parts"])

    def row(self, precision: str, began_ns: int) -> Row:
        """Return what was found; the run began at `began_ns`."""
        from attrs import asdict

        from eipack.statistics.summary import summarize

        entrant, origin = self.entrant, self.entrant.origin
        if self.failure is not None or origin is None:
            return self._failed()
        answered_per_s = (len(self.samples_ns) - self.unanswered) / max(self.elapsed_ns, 1) * 1e9
        rows = self.rows_per_call
        return Row(
            target=str(entrant.target),
            program=origin.program,
            scenario=self.scenario,
            ran_on=origin.ran_on,
            device=origin.device,
            accelerator=origin.accelerator,
            kind=origin.kind,
            method=origin.method,
            precision=precision,
            threads=origin.threads,
            loss=origin.loss,
            cold_start_ms=entrant.cold_start_ms,
            load_ms=entrant.load_ms,
            first_ms=entrant.first_ms,
            warm_up=self.warm_up,
            calls=len(self.samples_ns),
            discarded=self.discarded,
            **asdict(summarize(self.samples_ns, self.turns)),
            calls_per_s=answered_per_s,
            rows_per_s=None if rows is None else rows * answered_per_s,
            unanswered=self.unanswered,
            resources=self.resources,
            parts=self.parts,
            samples_ns=tuple(self.samples_ns),
            began_ns=tuple(began - began_ns for began in self.began_ns),
            turns=tuple(self.turns),
        )

    def _failed(self) -> Row:
        failure = self.failure or Lost("failed", "it was not measured")
        return Row(
            str(self.entrant.target),
            self.entrant.program,
            self.scenario,
            error=failure.reason,
            wrong=failure.verdict == "wrong",
        )
