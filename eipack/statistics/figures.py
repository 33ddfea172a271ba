"""The figures of a row by their names, and which percentile each is; the mean is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

PERCENTILES: Final[Mapping[str, float]] = {"p50_ms": 50, "p90_ms": 90, "p95_ms": 95, "p99_ms": 99}
FIGURES: Final[Mapping[str, float | Literal["mean"]]] = {"mean_ms": "mean", **PERCENTILES}
