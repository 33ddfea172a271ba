"""What the advisor says: every choice with its costs, the best of them, and why not the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from attrs import field, frozen

Kind = Literal["cpu", "gpu", "accelerator"]
Verdict = Literal["pass", "fail", "insufficient"]


@frozen
class Cost:
    """US dollars for 100,000 calls, with a 95 % interval where calls were measured one by one."""

    usd: float
    low: float | None = None
    high: float | None = None


@frozen
class Memory:
    """What a choice needs and has, in bytes; None where nobody knows.

    `least` is a lower bound (weights and one call's inputs), `peak` what was measured, `host` and
    `accelerator` what the machine and the device or slice have.
    """

    least: int | None = None
    peak: int | None = None
    host: int | None = None
    accelerator: int | None = None


@frozen
class Choice:
    """One row of a report at the price of what it ran on.

    `instance` is the machine, `accelerator` the attached one, if any; `usd_per_hour` is the price of
    both. `latencies` and `intervals` are by figure (`mean_ms`, `p90_ms`). `serial` is the cost of
    calls one after another (price / 3600 x mean s x 100,000), `saturated` that at the
    highest throughput measured which still meets the limits. `verdict` is on the limits all
    together; `more_calls` is how many an `insufficient` one lacks. An `excluded` choice says why.
    `rank` is 1 for the cheapest that is not excluded; choices whose costs cannot be told apart
    share it.
    """

    instance: str
    accelerator: str | None
    kind: Kind
    target: str
    program: str | None
    precision: str
    source: str
    usd_per_hour: float | None
    latencies: Mapping[str, float] = field(factory=dict)
    intervals: Mapping[str, tuple[float, float | None]] = field(factory=dict)
    serial: Cost | None = None
    saturated: Cost | None = None
    calls_per_s: float | None = None
    memory: Memory = Memory()
    verdict: Verdict | None = None
    more_calls: int = 0
    excluded: str | None = None
    rank: int | None = None

    @property
    def name(self) -> str:
        """What one rents: `c5.large + eia2.medium`, `g4dn.xlarge`."""
        return self.instance if self.accelerator is None else f"{self.instance} + {self.accelerator}"


@frozen
class Sizing:
    """How many of a choice serve `qps` calls a second, and what that costs in 730 hours."""

    qps: float
    count: int
    usd_per_month: float
    utilisation: float


@frozen
class PricesUsed:
    """Where the prices came from; `oldest` and `newest` are dates of retrieval."""

    catalogue: str
    currency: str
    regions: tuple[str, ...]
    bases: tuple[str, ...]
    oldest: str
    newest: str
    sources: tuple[str, ...]
    historical: bool = False


@frozen
class Advice:
    """Every choice, those that qualify first and the cheapest of them first.

    `limits` are in ms by figure (`p90_ms`). `best` is the first choice that qualifies, `nearest` the
    one that misses by least where none does. `warnings` speak of prices that are old
    or not comparable, and of reports that do not fit together.
    """

    schema_version: Literal[1]
    package: str
    limits: Mapping[str, float]
    choices: tuple[Choice, ...]
    best: Choice | None
    nearest: Choice | None
    sizing: Mapping[str, Sizing] = field(factory=dict)
    prices: PricesUsed | None = None
    warnings: tuple[str, ...] = ()
