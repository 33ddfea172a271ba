"""How calls are offered to a session while it is measured."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

Name = Literal["single-stream", "closed-loop", "open-loop", "offline"]


@frozen
class Scenario:
    """One way of offering calls, and its size; the names are MLPerf's and queueing theory's.

    `single-stream`: one caller, which calls again as soon as it is answered. `closed-loop`:
    `concurrency` such callers at once. `open-loop`: calls arrive as a Poisson process at
    `rate_per_s`, whether or not earlier ones are answered, and a latency counts from the arrival.
    `offline`: all rows are there at once, and are run in batches of `batch`. `batch` is the size
    of the batch dimension of every call; None leaves the inputs as they are.
    """

    name: Name = "single-stream"
    concurrency: int = 1
    rate_per_s: float | None = None
    batch: int | None = None

    def __str__(self) -> str:
        size = {
            "single-stream": "",
            "closed-loop": f" x{self.concurrency}",
            "open-loop": f" at {self.rate_per_s:g}/s" if self.rate_per_s else "",
            "offline": "",
        }[self.name]
        return f"{self.name}{size}" + (f", batch {self.batch}" if self.batch else "")
