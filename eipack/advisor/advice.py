"""What the advisor says: every choice with its costs, the best of them, and why not the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from attrs import field, frozen

Kind = Literal["cpu", "gpu", "accelerator"]
Verdict = Literal["pass", "fail", "insufficient"]
By = Literal["serial", "saturated", "month"]


@frozen
class Cost:
    """US dollars for 100,000 calls, with a 95 % interval where calls were measured one by one.

    Without an interval both bounds are None; an upper bound alone is None where there were too few
    calls to have one.
    """

    usd: float
    low: float | None = None
    high: float | None = None


@frozen
class Memory:
    """What a choice needs and has, in bytes; None where nobody knows.

    `least` is a lower bound (weights and one call's inputs), `peak` what was measured where the
    model lies (the device, or the host for a CPU), `host_peak` what its process took of the host.
    `host` and `accelerator` are what the machine, and the device or slice, have.
    """

    least: int | None = None
    peak: int | None = None
    host_peak: int | None = None
    host: int | None = None
    accelerator: int | None = None


@frozen
class Sizing:
    """How many of a choice serve `qps` calls a second, and what that costs in 730 hours.

    `utilisation` is the share of what they could serve that `qps` takes.
    """

    qps: float
    count: int
    usd_per_month: float
    utilisation: float


@frozen
class Choice:
    """One way of running the package on one machine, at the price of what it ran on.

    `instance` is the machine, `accelerator` the attached one, if any; `usd_per_hour` is the price
    of both. `source` is the report, or the file and line, that it was read from. `latencies` and
    `intervals` are by figure (`mean_ms`, `p90_ms`), those of the row with the least load
    (`scenario`), over `calls` calls (0: only the figures are known). `serial` is the cost of calls
    one after another (price / 3600 x mean s x 100,000), `saturated` that at the highest throughput
    measured which still meets the limits, `calls_per_s`, reached in `saturated_scenario`.
    `verdict` is on the limits all together; `more_calls` is how many an `insufficient` one lacks.
    An `excluded` choice says why. `rank` is 1 for the cheapest that is not excluded; choices whose
    costs cannot be told apart share it. `sizing` is there where a rate was asked for.
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
    scenario: str = "single-stream"
    calls: int = 0
    stable: bool | None = None
    serial: Cost | None = None
    saturated: Cost | None = None
    saturated_scenario: str | None = None
    calls_per_s: float | None = None
    memory: Memory = Memory()
    verdict: Verdict | None = None
    more_calls: int = 0
    excluded: str | None = None
    rank: int | None = None
    sizing: Sizing | None = None

    @property
    def name(self) -> str:
        """What one rents: `c5.large + eia2.medium`, `g4dn.xlarge`."""
        return (
            self.instance if self.accelerator is None else f"{self.instance} + {self.accelerator}"
        )


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

    `package` is what was measured; where only tables say it, their files' names. `limits` are in
    ms by figure (`p90_ms`). `best` is the first choice that qualifies, `nearest` the one that
    misses by least where none does. `by` is the cost that they are ranked by: `serial`,
    `saturated`, or `month`, what serving the rate that was asked for costs. `sentence` says the
    advice in words. `warnings` speak of prices that are old or not comparable, and of reports that
    do not fit together.
    """

    schema_version: Literal[1]
    package: str
    limits: Mapping[str, float]
    choices: tuple[Choice, ...]
    best: Choice | None
    nearest: Choice | None
    by: By = "serial"
    sentence: str = ""
    prices: PricesUsed | None = None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """Return the advice as one line of JSON."""
        import msgspec

        return msgspec.json.encode(self) + b"\n"
