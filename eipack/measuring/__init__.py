"""How fast a package runs: one clock, every target in one run, raw samples kept."""

from __future__ import annotations

from eipack.measuring.environment import Environment
from eipack.measuring.race import benchmark
from eipack.measuring.report import Report, Row

__all__ = ["Environment", "Report", "Row", "benchmark"]
