"""What a second process on the same package costs in memory, while the first one lives."""

from __future__ import annotations

from typing import Any

from benchmarks import children
from benchmarks.figure import Figure, figure_of, run
from benchmarks.packages import package
from benchmarks.processes import ask, child, fresh, line

REPEAT = 3


def measure(repeat: int = REPEAT) -> list[Figure]:
    """Compare the second process's unique memory (USS) before and after it loads and calls.

    Before is after PyTorch has run a program of its own.
    """
    packed = package("gpt")
    weights = fresh(children.weigh, "gpt")
    found = [_second(packed) for _ in range(repeat)]
    shares = [100 * (one["after"]["uss"] - one["before"]["uss"]) / weights for one in found]
    proportional = found[-1]["after"]["pss"] - found[-1]["before"]["pss"]
    detail = (
        f"of {weights / 1e6:.0f} MB; with its half of what is shared {proportional / 1e6:.0f} MB"
    )
    what = "memory of a second process with the same package, beyond PyTorch's own, OpenAI GPT"
    return [figure_of(what, 10, "%", shares, "python -m benchmarks.sharing", detail)]


def _second(packed: object) -> dict[str, Any]:
    first = child(children.hold, packed, "gpt")
    try:
        line(first)
        second = child(children.hold, packed, "gpt")
        try:
            line(second)
            found: dict[str, Any] = ask(second)
        finally:
            second.communicate()
    finally:
        first.communicate()
    return found


if __name__ == "__main__":
    run(measure, REPEAT)
