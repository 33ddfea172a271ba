"""What a benchmark found: figures, what they rest on, and every raw sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from attrs import field, frozen

from eipack.errors import ReportRefused
from eipack.measuring.environment import Environment
from eipack.measuring.scenario import Scenario

SCHEMA_VERSION: Final = 2

Interval = tuple[float, float | None]
"""A confidence interval; where the upper bound is None, there were too few calls to have one."""


@frozen
class WarmUp:
    """How long a session took to settle: `calls` in `ms`; it may not have `settled` by then."""

    calls: int
    ms: float
    settled: bool


@frozen
class Resources:
    """What the calls took beside time; None where it cannot be read.

    `cpu_ms` is processor time of the whole process for each call, `host_peak_bytes` the largest
    resident memory of the process (its own, and pages that it maps), `host_bytes` what loading and
    calling added to it, `device_peak_bytes` the most that was in use on the device for this
    process, `device_utilisation` the share of time in which the device was busy (0 to 1).
    """

    cpu_ms: float | None = None
    host_bytes: int | None = None
    host_peak_bytes: int | None = None
    device_peak_bytes: int | None = None
    device_utilisation: float | None = None


@frozen
class Parts:
    """Where the time of a remote call went, medians in ms: on the wire, waiting, computing."""

    network_ms: float
    queue_ms: float
    compute_ms: float


@frozen
class Row:
    """One program on one target in one scenario; where it failed, `error` says why.

    `target` is what was asked for, `ran_on` where the calls really ran, on `device`; `accelerator`
    is the size of an attached one (`eia2.medium`). `wrong` says that it failed because its outputs
    are not the recorded ones. `cold_start_ms` is from the start of a fresh process to its first
    answer, Python and imports included; `first_ms` is the first call after `load_ms` of loading,
    verification included; then it warmed up. `discarded` calls came after the first one
    and are in no figure; the mean, the percentiles and `stable` are of the `calls` others.
    `intervals` has 95 % confidence intervals of the figures by their names, `conservative_ms`
    what MLPerf's early stopping would report, by the same names (None: too few calls). `stable`
    is False where latencies drifted during the run. `calls_per_s` counts calls while the
    scenario ran, `rows_per_s` rows of the batch dimension, both of them without the `unanswered`:
    calls of an overloaded open loop that had not begun when a turn ended, whose latencies are how
    long they had waited by then. `samples_ns` are the latencies in the order in which they were
    made, `began_ns` when each began (an open loop's: arrived) since the run's start, and `turns`
    how many of them each turn had. `threads` are those that a call takes of the process's, `loss`
    is what a precision below float32 costs.
    """

    target: str
    program: str | None = None
    scenario: Scenario = field(factory=Scenario)
    ran_on: str | None = None
    device: str | None = None
    accelerator: str | None = None
    kind: str | None = None
    method: str | None = None
    precision: str = "float32"
    threads: int | None = None
    loss: float | None = None
    error: str | None = None
    wrong: bool = False
    cold_start_ms: float | None = None
    load_ms: float | None = None
    first_ms: float | None = None
    warm_up: WarmUp | None = None
    calls: int = 0
    discarded: int = 0
    mean_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    intervals: Mapping[str, Interval] = field(factory=dict)
    conservative_ms: Mapping[str, float | None] = field(factory=dict)
    stable: bool | None = None
    calls_per_s: float | None = None
    rows_per_s: float | None = None
    unanswered: int = 0
    resources: Resources = field(factory=Resources)
    parts: Parts | None = None
    samples_ns: tuple[int, ...] = ()
    began_ns: tuple[int, ...] = ()
    turns: tuple[int, ...] = ()


@frozen
class Noise:
    """An A/A run: one row measured by two processes in turns, and how far their medians differ.

    `ratio` is the second's p50 to the first's, with its 95 % interval; `floor` is the relative
    difference that this run cannot tell from noise: rows that differ by less are ties.
    """

    target: str
    program: str | None
    ratio: float
    low: float
    high: float
    floor: float


@frozen
class Settings:
    """What was asked of the run; `flags` are the command's other words that bear on its figures."""

    calls: int | None = None
    duration_s: float | None = None
    until_stable: bool = False
    in_process: bool = False
    seed: int = 0
    flags: Mapping[str, Any] = field(factory=dict)


@frozen
class Report:
    """The rows of one run in the order asked for, and where they were measured.

    Rows of one report were interleaved and compare with each other; those of two reports
    compare only as far as the machine stayed the same. `noise` is None where no A/A run was made.
    """

    schema_version: Literal[2]
    percentile: Literal["nearest-rank"]
    environment: Environment
    settings: Settings
    rows: tuple[Row, ...]
    noise: Noise | None = None

    def to_json(self) -> bytes:
        """Return the report as one line of JSON."""
        import msgspec

        return msgspec.json.encode(self) + b"\n"

    @classmethod
    def from_json(cls, data: bytes | str) -> Report:
        """Read what `to_json` wrote.

        Raises:
            ReportRefused: It is no report, or one of another version of the schema.
        """
        import msgspec

        try:
            version = msgspec.json.decode(data, type=dict[str, Any]).get("schema_version")
            if isinstance(version, int) and version != SCHEMA_VERSION:
                raise ReportRefused(
                    f"the report has schema version {version}, this eipack reads "
                    f"{SCHEMA_VERSION}; {_remedy(version)}",
                    version=version,
                )
            return msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ReportRefused(f"this is no report of `eipack bench`: {error}") from error


def _remedy(version: int) -> str:
    if version > SCHEMA_VERSION:
        return "update eipack: pip install -U eipack"
    return "measure again with this eipack"
