"""What a benchmark found: figures, what they rest on, and every raw sample."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from statistics import fmean
from typing import Any, Literal

from attrs import frozen

from eipack.errors import EipackError
from eipack.measuring.environment import Environment

SCHEMA_VERSION = 1
NS_PER_MS = 1e6


@frozen
class Row:
    """One program on one target; where it failed, `error` says why and there are no figures.

    `target` is what was asked for, `ran_on` where the calls really ran, on `device`.
    `first_ms` is the first call after `load_ms` of loading, verification included;
    `discarded` calls came after it and before or between the `calls` that the mean and the
    percentiles are of. `samples_ns` are those calls in the order in which they were made.
    `threads` are those that a call takes of the process's, `loss` is what a precision below
    float32 costs.
    """

    target: str
    program: str | None = None
    ran_on: str | None = None
    device: str | None = None
    kind: str | None = None
    method: str | None = None
    calls: int = 0
    discarded: int = 0
    load_ms: float | None = None
    first_ms: float | None = None
    mean_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    error: str | None = None
    precision: str = "float32"
    threads: int | None = None
    loss: float | None = None
    samples_ns: tuple[int, ...] = ()


@frozen
class Report:
    """The rows of one run in the order asked for, and where they were measured.

    Rows of one report were interleaved and compare with each other; those of two reports
    compare only as far as the machine stayed the same.
    """

    schema_version: Literal[1]
    percentile: Literal["nearest-rank"]
    environment: Environment
    rows: tuple[Row, ...]

    def to_json(self) -> bytes:
        """Return the report as one line of JSON."""
        import msgspec

        return msgspec.json.encode(self) + b"\n"

    @classmethod
    def from_json(cls, data: bytes | str) -> Report:
        """Read what `to_json` wrote.

        Raises:
            EipackError: It is no report, or one of a later eipack.
        """
        import msgspec

        try:
            version = msgspec.json.decode(data, type=dict[str, Any]).get("schema_version")
            if isinstance(version, int) and version > SCHEMA_VERSION:
                raise EipackError(
                    f"the report has schema version {version}, this eipack reads "
                    f"{SCHEMA_VERSION}; update eipack: pip install -U eipack",
                    version=version,
                )
            return msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise EipackError(f"this is no report of `eipack bench`: {error}") from error


def percentile_ms(samples_ns: Sequence[int], percent: int) -> float:
    """Return the nearest-rank percentile: the smallest sample that `percent` % do not exceed.

    It is always a latency that occurred; nothing is interpolated.
    """
    return sorted(samples_ns)[ceil(len(samples_ns) * percent / 100) - 1] / NS_PER_MS


def mean_ms(samples_ns: Sequence[int]) -> float:
    """Return the mean of samples in ns as ms."""
    return fmean(samples_ns) / NS_PER_MS
