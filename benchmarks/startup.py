"""How long a person waits for `import eipack`, `eipack --help` and `eipack inspect`."""

from __future__ import annotations

from statistics import median

from benchmarks.figure import Figure, figure_of, run
from benchmarks.packages import package
from benchmarks.processes import EIPACK, PYTHON, imports_of, wall_ms

REPEAT = 15
_COMMAND = "python -m benchmarks.startup"


def measure(repeat: int = REPEAT) -> list[Figure]:
    """Start each command `repeat` times, taking turns; wall time from start to end.

    Raises:
        RuntimeError: One of them imports torch.
    """
    commands = {
        "bare": (*PYTHON, "-c", "pass"),
        "import": (*PYTHON, "-c", "import eipack"),
        "help": (*EIPACK, "--help"),
        "inspect": (*EIPACK, "inspect", str(package("gpt"))),
    }
    for name, command in commands.items():
        if "torch" in imports_of(command):
            raise RuntimeError(f"{name} imports torch")
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(repeat + 1):
        for name, command in commands.items():
            taken = wall_ms(command)
            if turn:  # the first one fills the page cache
                times[name].append(taken)
    bare = median(times["bare"])
    beyond = [taken - bare for taken in times["import"]]
    detail = f"bare Python {bare:.0f} ms; no torch imported"
    return [
        figure_of("`import eipack` beyond bare Python", 60, "ms", beyond, _COMMAND, detail),
        figure_of("`eipack --help`", 250, "ms", times["help"], _COMMAND, "no torch imported"),
        figure_of(
            "`eipack inspect`, 480 MB package",
            250,
            "ms",
            times["inspect"],
            _COMMAND,
            "no torch imported",
        ),
    ]


if __name__ == "__main__":
    run(measure, REPEAT)
