"""Measure every figure, print the table, and write it to `benchmarks/results`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from benchmarks.figure import Figure, as_json, as_markdown, as_text
from eipack.processor import model_name

GROUPS = ("startup", "call", "load", "size", "rebound", "sharing", "loop")
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run all groups, or those named; only a full run is written down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--repeat", type=int, help="fresh processes a figure")
    parser.add_argument("--json", action="store_true", help="print JSON, samples included")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    environment = _environment()
    figures = [
        figure for name in options.groups or GROUPS for figure in _measured(name, options.repeat)
    ]
    result = {**environment, "figures": as_json(figures)}
    print(json.dumps(result, indent=1) if options.json else as_text(figures))
    if not options.groups:
        _write(result, figures)


def _measured(name: str, repeat: int | None) -> list[Figure]:
    print(f"measuring {name}", file=sys.stderr)
    module = import_module(f"benchmarks.{name}")
    figures: list[Figure] = module.measure(repeat or module.REPEAT)
    return figures


def _environment() -> dict[str, object]:
    return {
        "schema_version": 1,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": model_name(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": version("torch"),
        "eipack": version("eipack"),
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def _write(result: dict[str, object], figures: list[Figure]) -> None:
    name = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\(\w+\)", "", str(result["machine"])).lower())
    day = str(result["date"])[:10]
    path = RESULTS / f"{day}-{name.strip('-')}-{result['cores']}-cores.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    about = (
        f"{result['machine']}, {result['cores']} cores, Python {result['python']}, "
        f"torch {result['torch']}, {day}, load average {result['load_average_before']} at the "
        "beginning. Medians over fresh processes, in brackets the lowest and the highest; "
        f"every sample is in `benchmarks/results/{path.name}`, and `make bench` "
        "measures all of it again."
    )
    text = f"{as_markdown(figures)}\n\n{about}\n"
    (RESULTS / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
