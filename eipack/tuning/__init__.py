"""The fastest correct way to run a package on this machine: found once, kept, used by `+auto`."""

from __future__ import annotations

from eipack.tuning.choosing import NotTuned
from eipack.tuning.machine import Machine
from eipack.tuning.record import Record, Row
from eipack.tuning.tuner import NotKept, tune

__all__ = ["Machine", "NotKept", "NotTuned", "Record", "Row", "tune"]
