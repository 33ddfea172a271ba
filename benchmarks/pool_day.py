"""A simulated day of a pool, clients coming and going: `python -m benchmarks.pool_day`.

Nothing is measured here: a clock is simulated, and the rules that choose are those of the
registry (`eipack_ray.allocation`). 200 GPUs of 24 GB on 100 nodes, each GPU cut into slices, serve
1,000 hosts, whose wish for accelerators follows the hours of a working day.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from statistics import median
from typing import Final

from attrs import asdict, define, evolve, field, frozen
from eipack_eia.sizes import GB, SIZES
from eipack_ray.allocation import Candidate, Wish, choose
from eipack_ray.claim import claim_of

from eipack.target import Target

HOURS: Final = 24.0
GPU_BYTES: Final = 24 * GB
_CUT: Final = {"eia2.xlarge": 1, "eia2.large": 2, "eia2.medium": 2}
"""How each GPU is cut: 1 x 8, 2 x 4 and 2 x 2 GB, and what each of the five processes takes."""

_SAMPLE_H: Final = 0.1

Lease = tuple[int, str]
"""A host, and the accelerator that it holds."""

_NOBODY: Final[Lease] = (0, "")
Rule = Callable[[Sequence[Candidate], Wish], Candidate | None]


@frozen
class Day:
    """What happened in a day, in hours and parts of the pool."""

    rule: str
    attached: int
    leased_peak: float
    leased_mean: float
    waited: float
    wait_p50_min: float
    wait_p99_min: float
    idle_nodes_mean: float
    idle_nodes_night: float
    together: float
    stranded: float


def pool_of(gpus: int, gpus_a_node: int) -> list[Candidate]:
    """Cut every GPU in the same way, as `pool up` for each type does when Ray packs them.

    Raises:
        ValueError: The slices claim more than a GPU.
    """
    if claimed() > 1.0:
        raise ValueError(f"the slices of a GPU claim {claimed():g} of it; cut it otherwise")
    return [
        Candidate(f"{gpu:03}-{name}-{number}", name, SIZES[name].memory_bytes, node)
        for gpu in range(gpus)
        for node in [f"node-{gpu // gpus_a_node:03}"]
        for name, many in _CUT.items()
        for number in range(many)
    ]


def claimed() -> float:
    """Return how much of a GPU its slices claim of Ray."""
    claims = {name: claim_of(SIZES[name], Target("cuda"), GPU_BYTES) for name in _CUT}
    return sum(many * claims[name].num_gpus for name, many in _CUT.items())


def first_free(candidates: Sequence[Candidate], wish: Wish) -> Candidate | None:
    """Choose whatever comes first, to be compared with."""
    return next((one for one in candidates if one.type == wish.type and not one.holders), None)


def anywhere(dice: random.Random) -> Rule:
    """Choose anything that fits, to be compared with."""

    def rule(candidates: Sequence[Candidate], wish: Wish) -> Candidate | None:
        free = [one for one in candidates if one.type == wish.type and not one.holders]
        return dice.choice(free) if free else None

    return rule


def rate(hour: float, peak: float) -> float:
    """Return arrivals an hour: little at night, most in the early afternoon."""
    return peak * (0.15 + 0.85 * max(0.0, math.sin(math.pi * (hour - 6.0) / 14.0)))


@define
class Simulation:
    """One day, by events: clients come, wait if they have to, stay and go."""

    rule: Rule
    pool: list[Candidate]
    hosts: int
    peak: float
    stay_h: float
    wishes: Sequence[float]
    dice: random.Random
    _there: dict[str, Candidate] = field(init=False)
    _events: list[tuple[float, int, str, Lease]] = field(factory=list, init=False)
    _number: count[int] = field(factory=count, init=False)
    _holding: dict[int, set[str]] = field(factory=dict, init=False)
    _queue: list[tuple[float, int, str]] = field(factory=list, init=False)
    waits_h: list[float] = field(factory=list, init=False)
    leased: list[float] = field(factory=list, init=False)
    idle: list[tuple[float, float]] = field(factory=list, init=False)
    stranded: list[float] = field(factory=list, init=False)
    seconds: int = field(default=0, init=False)
    together: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._there = {one.id: one for one in self.pool}

    def run(self) -> None:
        """Live through the day."""
        self._plan(0.0, "arrive", _NOBODY)
        for sample in range(round(HOURS / _SAMPLE_H)):
            self._plan(sample * _SAMPLE_H, "sample", _NOBODY)
        while self._events:
            hour, _, what, given = heapq.heappop(self._events)
            if hour >= HOURS:
                return
            getattr(self, f"_{what}")(hour, given)

    def _plan(self, hour: float, what: str, given: Lease) -> None:
        heapq.heappush(self._events, (hour, next(self._number), what, given))

    def _arrive(self, hour: float, _: Lease) -> None:
        if self.dice.random() < rate(hour, self.peak) / self.peak:  # thinning
            wanted = self.dice.choices([*_CUT], self.wishes)[0]
            self._queue.append((hour, self.dice.randrange(self.hosts), wanted))
            self._serve(hour)
        self._plan(hour + self.dice.expovariate(self.peak), "arrive", _NOBODY)

    def _leave(self, hour: float, given: Lease) -> None:
        host, name = given
        self._there[name] = evolve(self._there[name], holders=0, exclusive=False)
        self._holding[host].discard(name)
        self._serve(hour)

    def _serve(self, hour: float) -> None:
        """Let those who wait try, in any order: each asks now and then, and none queues."""
        self.dice.shuffle(self._queue)
        refused: set[str] = set()
        left = []
        for began, host, wanted in self._queue:
            taken = None if wanted in refused else self._take(host, wanted)
            if taken is None:
                if wanted not in refused:
                    self.stranded.append(1 - self._leased())
                refused.add(wanted)
                left.append((began, host, wanted))
                continue
            self.waits_h.append(hour - began)
            stay_h = self.dice.lognormvariate(math.log(self.stay_h), 1.0)
            self._plan(hour + stay_h, "leave", (host, taken.id))
        self._queue = left

    def _take(self, host: int, wanted: str) -> Candidate | None:
        mine = self._holding.setdefault(host, set())
        nodes = frozenset(self._there[name].node for name in mine)
        taken = self.rule([*self._there.values()], Wish(wanted, elsewhere=nodes))
        if taken is not None:
            self.seconds += bool(mine)
            self.together += taken.node in nodes
            self._there[taken.id] = evolve(taken, holders=1, exclusive=True)
            mine.add(taken.id)
        return taken

    def _sample(self, hour: float, _: Lease) -> None:
        self.leased.append(self._leased())
        held = {one.node for one in self._there.values() if one.holders}
        self.idle.append((hour, 1 - len(held) / len({one.node for one in self.pool})))

    def _leased(self) -> float:
        held = sum(one.memory_bytes for one in self._there.values() if one.holders)
        return held / sum(one.memory_bytes for one in self.pool)


def simulate(name: str, rule: Rule, given: argparse.Namespace) -> Day:
    """Live through a day with one rule; the same clients come for each."""
    dice = random.Random(given.seed)  # noqa: S311 - a simulation, which is to be repeatable
    pool = pool_of(given.gpus, given.gpus_a_node)
    day = Simulation(rule, pool, given.hosts, given.peak, given.stay_h, given.wishes, dice)
    day.run()
    waits = sorted(day.waits_h)
    waited = [wait for wait in waits if wait > 0]
    return Day(
        name,
        len(waits),
        max(day.leased),
        sum(day.leased) / len(day.leased),
        len(waited) / len(waits),
        60 * median(waits),
        60 * waits[math.ceil(0.99 * len(waits)) - 1],
        sum(share for _, share in day.idle) / len(day.idle),
        median(share for hour, share in day.idle if hour >= 21.0),
        day.together / max(day.seconds, 1),
        sum(day.stranded) / max(len(day.stranded), 1),
    )


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description="A simulated day of a pool of accelerators.")
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--gpus", type=int, default=200)
    parser.add_argument("--gpus-a-node", type=int, default=2)
    parser.add_argument("--peak", type=float, default=850.0, help="clients an hour at noon")
    parser.add_argument("--stay-h", type=float, default=0.75, help="the median of a lease")
    parser.add_argument(
        "--wishes",
        type=float,
        nargs=3,
        default=[0.19, 0.4, 0.41],
        help="how many ask for eia2.xlarge, large and medium",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rules: dict[str, Rule] = {
        "the registry's": choose,
        "first free": first_free,
        "anywhere": anywhere(random.Random(given.seed)),  # noqa: S311 - as above
    }
    days = [simulate(name, rule, given) for name, rule in rules.items()]
    if given.json:
        print(json.dumps([asdict(day) for day in days], indent=2))
        return
    _print(days, pool_of(given.gpus, given.gpus_a_node))


def _print(days: Sequence[Day], pool: Sequence[Candidate]) -> None:
    slices = Counter(one.type for one in pool)
    told = ", ".join(f"{many} {name}" for name, many in slices.items())
    print(f"{told}; of each GPU {claimed():.2f} is claimed")
    rows: dict[str, Callable[[Day], str]] = {
        "attached": lambda day: f"{day.attached}",
        "memory leased, mean": lambda day: f"{day.leased_mean:.0%}",
        "memory leased, most": lambda day: f"{day.leased_peak:.0%}",
        "clients that waited": lambda day: f"{day.waited:.1%}",
        "wait P50": lambda day: f"{day.wait_p50_min:.1f} min",
        "wait P99": lambda day: f"{day.wait_p99_min:.1f} min",
        "memory free while somebody waits": lambda day: f"{day.stranded:.0%}",
        "nodes without clients, mean": lambda day: f"{day.idle_nodes_mean:.0%}",
        "nodes without clients, after 21:00": lambda day: f"{day.idle_nodes_night:.0%}",
        "second accelerator on the same node": lambda day: f"{day.together:.1%}",
    }
    print(f"{'':36}" + "".join(f"{day.rule:>16}" for day in days))
    for name, text in rows.items():
        print(f"{name:36}" + "".join(f"{text(day):>16}" for day in days))


if __name__ == "__main__":
    main()
