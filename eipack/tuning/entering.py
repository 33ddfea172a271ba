"""How candidates enter the race: loaded, held to the trials, and given a first look."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from time import monotonic
from typing import TYPE_CHECKING, Final

from attrs import define, evolve

from eipack.children import Child, Lost
from eipack.measuring.environment import manifest_digest
from eipack.tuning.candidates import Candidate
from eipack.tuning.race import Lane, may_replace
from eipack.tuning.record import Row

if TYPE_CHECKING:
    from eipack.package import Package

_FIRST_S: Final = 600.0
_PATIENCE_S: Final = 5.0
"""How long a candidate is waited for before the next one is loaded."""
_LEAST_CHECK_S: Final = 10.0
_TURN_LIMIT_S: Final = 10.0
_MUCH_SLOWER: Final = 10.0
"""What takes so many times as long as plain PyTorch is not waited for."""
_GLANCE_S: Final = 0.3
_FAR: Final = 2.0
"""How much slower at first sight is out of the race at once, so that few stay in memory."""
_RISING: Final = 1.1
"""A batch whose rows take so much longer than those of a smaller one is the last that is tried."""


@define(eq=False)
class _Entrant:
    """A candidate, its process, and what is known of it."""

    candidate: Candidate
    child: Child
    row: Row


class Entering:
    """Bring candidates into the race: `lanes` are those that run, `out` those that do not."""

    def __init__(
        self,
        package: Package,
        folder: Path,
        trust: list[str] | None,
        batches: Sequence[Mapping[str, int]],
    ) -> None:
        self.lanes: list[Lane] = []
        self.out: list[Row] = []
        self._package = package
        self._digest = manifest_digest(package)
        self._folder = folder
        self._trust = trust
        self._batches = batches
        self._children: list[Child] = []
        self._spare: Child | None = None
        self._trials = 0
        self._loads: list[tuple[int, int]] = [(0, 1)]
        self._limit_s = _FIRST_S
        self._check_s = _FIRST_S
        self._plain: Row | None = None

    def first(self, candidate: Candidate, seconds: float) -> None:
        """Load plain PyTorch, and have it answer the trials that all others are held to.

        Raises:
            Lost: It fails.
        """
        entrant = self._start(candidate)
        self._opened(entrant, _FIRST_S)
        answer = entrant.child.call(
            "draw",
            _FIRST_S,
            folder=str(self._folder),
            batches=list(self._batches),
            seconds=seconds,
        )
        self._trials = len(answer["sizes"])
        if self._batches:
            self._loads = list(_loads(answer["sizes"], self._batches))
        if not self._loads:
            raise Lost("failed", "it answers no batch of those to be timed")
        began = monotonic()
        self._check(entrant, _FIRST_S)
        self._check_s = max(_LEAST_CHECK_S, _MUCH_SLOWER * (monotonic() - began))
        self._plain = entrant.row
        self._look(entrant)
        if not any(lane.running for lane in self.lanes):
            row = self.lanes[0].row
            raise Lost("wrong" if row.verdict == "wrong" else "failed", row.reason)
        slowest = max(max(lane.samples) for lane in self.lanes) / 1e9
        self._limit_s = _TURN_LIMIT_S + 4 * _MUCH_SLOWER * slowest

    def is_new(self, candidate: Candidate) -> bool:
        """Tell whether a candidate is something else than plain PyTorch as it ran."""
        row = self._plain
        return row is None or (
            (str(candidate.target), candidate.program, candidate.precision)
            != (row.target, row.program, row.precision)
            or candidate.threads not in (None, row.threads)
            or bool(candidate.options)
        )

    def others(
        self, candidates: Sequence[Candidate], seconds: float, tell: Callable[[str], None]
    ) -> None:
        """Load the others one after the other.

        What takes long, as compilers do, is stopped until the others had their share of the time.
        """
        end = monotonic() + seconds
        queue: deque[Candidate | _Entrant] = deque(candidates)
        while queue:
            one, left = queue.popleft(), end - monotonic()
            if left <= 0:
                self._give_up(one, seconds)
                continue
            target = one.target if isinstance(one, Candidate) else one.candidate.target
            tell(f"loading {target}")
            if isinstance(one, Candidate):
                one = self._start(one, spare=any(isinstance(next_, Candidate) for next_ in queue))
            else:
                _pause(one, on=False)
            share = max(_PATIENCE_S, left / (len(queue) + 1))
            if not self._enter(one, min(share, left)):
                _pause(one, on=True)
                queue.append(one)

    def _give_up(self, one: Candidate | _Entrant, seconds: float) -> None:
        if isinstance(one, Candidate):
            reason = f"the others took {seconds:.3g} s to load; raise the budget"
            self.out.append(evolve(one.row(), reason=reason))
        else:
            reason = f"was not loaded within {seconds:.3g} s; raise the budget"
            self._lose(one, Lost("failed", reason))

    def end(self) -> None:
        """End every process that is left."""
        for child in self._children:
            child.end()

    def _start(self, candidate: Candidate, *, spare: bool = True) -> _Entrant:
        """Ask a process to load a candidate; the next process starts meanwhile."""
        child = self._spare or self._new()
        self._spare = self._new() if spare else None
        entrant = _Entrant(candidate, child, candidate.row())
        engine = candidate.target.engine or candidate.target.device
        with suppress(Lost):  # if it has ended, it says of what when its answer is wanted
            child.ask(
                "open",
                package=str(Path(self._package.path).absolute()),
                target=str(candidate.target),
                program=candidate.program,
                precision=candidate.precision,
                threads=candidate.threads,
                options={engine: dict(candidate.options)},
                trust=self._trust,
            )
        return entrant

    def _new(self) -> Child:
        child = Child("eipack.tuning.child", self._folder)
        self._children.append(child)
        return child

    def _enter(self, entrant: _Entrant, seconds: float) -> bool:
        """Check and glance at what is loaded; tell whether it is loaded, or lost, by now."""
        try:
            if not self._opened(entrant, seconds):
                return False
            self._check(entrant, max(self._check_s, seconds))
            self._look(entrant)
        except Lost as lost:
            self._lose(entrant, lost)
        return True

    def _opened(self, entrant: _Entrant, seconds: float) -> bool:
        answer = entrant.child.answer(seconds)
        if answer is None:
            return False
        if answer["digest"] != self._digest:
            raise Lost("failed", f"{self._package.path} is another package now; tune it again")
        entrant.row = evolve(entrant.row, threads=answer["threads"], load_ms=answer["load_ms"])
        return True

    def _check(self, entrant: _Entrant, seconds: float) -> None:
        precision = entrant.candidate.precision
        answer = entrant.child.call(
            "check", seconds, folder=str(self._folder), count=self._trials, precision=precision
        )
        entrant.row = evolve(
            entrant.row, verdict="measured", checks=self._trials, loss=answer["loss"]
        )

    def _look(self, entrant: _Entrant) -> None:
        """Time a few calls of each batch, which warm up; what is far slower goes no further."""
        with self._alone():
            self._glance(entrant)
        if not any(lane.running for lane in self.lanes if lane.child is entrant.child):
            entrant.child.end()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Stop the process that starts for the next candidate: importing takes the processor."""
        spare = self._spare
        if spare is not None:
            spare.pause(on=True)
        try:
            yield
        finally:
            if spare is not None:
                spare.pause(on=False)

    def _glance(self, entrant: _Entrant) -> None:
        best = float("inf")
        for trial, batch in self._loads:
            row = evolve(entrant.row, batch=batch)
            lane = Lane(entrant.child, row, trial, self._limit_s)
            lane.samples += lane.turn(_GLANCE_S)
            self.lanes.append(lane)
            if not lane.running:
                break
            each = median(lane.samples) / batch
            if not lane.row.plain and self._is_far(lane):
                lane.leave(evolve(lane.row, verdict="slower"))
            if each > _RISING * best:
                break
            best = min(best, each)

    def _is_far(self, lane: Lane) -> bool:
        here = min(lane.samples) / lane.row.batch
        rivals = [
            median(one.samples) / one.row.batch
            for one in self.lanes
            if one is not lane and one.running and may_replace(one.row, lane.row)
        ]
        return bool(rivals) and here > _FAR * min(rivals)

    def _lose(self, entrant: _Entrant, lost: Lost) -> None:
        entrant.child.end()
        self.out.append(evolve(entrant.row, verdict=lost.verdict, reason=lost.reason))


def _pause(entrant: _Entrant, *, on: bool) -> None:
    """Stop what takes this processor, or let it go on; elsewhere a connection might be lost."""
    if entrant.candidate.target.device == "cpu":
        entrant.child.pause(on=on)


def _loads(
    tried: Sequence[Mapping[str, int]], batches: Sequence[Mapping[str, int]]
) -> Iterator[tuple[int, int]]:
    """Give the number of the trial, and the rows, of each batch that was answered."""
    for batch in batches:
        (rows,) = batch.values()
        sizes = {**tried[0], **batch}
        if sizes in tried[1:]:
            yield 1 + list(tried[1:]).index(sizes), rows
