"""How fast a package runs: one clock, every target in one run, raw samples kept."""

from __future__ import annotations

from eipack.measuring.benchmarking import benchmark
from eipack.measuring.environment import Environment
from eipack.measuring.report import Noise, Parts, Report, Resources, Row, Settings, WarmUp
from eipack.measuring.scenario import Scenario

__all__ = [
    "Environment",
    "Noise",
    "Parts",
    "Report",
    "Resources",
    "Row",
    "Scenario",
    "Settings",
    "WarmUp",
    "benchmark",
]
