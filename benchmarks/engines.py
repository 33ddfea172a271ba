"""How fast eipack's choice of engine is, beside every engine called by hand.

Each model is packaged and tuned; then every contender runs in a process of its own, and all of
them take turns, so that what slows the machine slows all of them. What was found of a model is
kept in `build/bench/engines`, and `--models` measures some of them again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from math import exp, log
from pathlib import Path
from statistics import median
from subprocess import Popen, TimeoutExpired
from typing import IO, Any, cast

import msgspec
from attrs import field, frozen

from benchmarks import children, contenders
from benchmarks.figure import Figure, as_markdown, as_text
from benchmarks.models import TITLES
from benchmarks.processes import FOLDER, child, fresh, line
from eipack.processor import model_name

MODELS = (
    "resnet18",
    "resnet50",
    "mobilenet",
    "vit_b_16",
    "gpt",
    "bert",
    "distilbert",
    "lstm",
)
AUTO = "eipack cpu+auto"
HALF = "eipack cpu+auto bfloat16"
ONEDNN = "eipack cpu+onednn"
PLAIN = "eipack cpu"
WAYS = (*contenders.RIVALS, PLAIN, ONEDNN, AUTO, HALF)
_TUNED_ALONE = "resnet18"
"""Tuned in float32 alone as well, to see how long that takes."""
_ROUNDS = 12
_TURN_S = 0.25
_STOP_S = 20.0
_RESULTS = Path(__file__).parent / "results"
_COMMAND = "python -m benchmarks.engines"
_ENGINES = ("torch", "onnxruntime", "openvino", "eipack")


@frozen
class Found:
    """What one model's contenders took: the p50 in ms of each, or why there is none."""

    model: str
    p50_ms: dict[str, float]
    ran_on: dict[str, str]
    failed: dict[str, str] = field(factory=dict)
    tune_s: float = 0.0
    load_s: tuple[float, float] = (0.0, 0.0)
    samples_ns: dict[str, list[int]] = field(factory=dict)


def main() -> None:
    """Measure the models, print the tables, and write them to `benchmarks/results`."""
    parser = argparse.ArgumentParser(prog=_COMMAND, description=main.__doc__)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=MODELS)
    parser.add_argument("--budget", default="60s", help="of `eipack tune`, for each model")
    parser.add_argument("--keep", action="store_true", help="do not measure what was found before")
    options = parser.parse_args()
    for name in options.models:
        if not (options.keep and _kept(name).exists()):
            _keep(_found(name, options.budget))
    found = [_read(name) for name in MODELS if _kept(name).exists()]
    overheads = {target: _overhead(target) for target in ("cpu+onnxruntime", "cpu+openvino")}
    figures = _figures(found, overheads)
    print(_table(found), as_text(figures), sep="\n\n")
    if len(found) == len(MODELS):
        _write(found, figures)


def _kept(name: str) -> Path:
    return FOLDER / "engines" / f"{name}.json"


def _keep(found: Found) -> None:
    path = _kept(found.model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(found))


def _read(name: str) -> Found:
    return msgspec.json.decode(_kept(name).read_bytes(), type=Found)


def _found(name: str, budget: str) -> Found:
    package = FOLDER / f"{name}-engines.eipack"
    if not package.exists():
        print(f"packaging {name}", file=sys.stderr)
        fresh(children.make, name, package, "torchscript", "exported", "onnx")
    print(f"tuning {name}", file=sys.stderr)
    took = fresh(contenders.tune, package, budget) if name == _TUNED_ALONE else 0.0
    fresh(contenders.tune, package, budget, "float32", "bfloat16")
    print(f"racing {name}", file=sys.stderr)
    samples, ran_on, failed = _race(name, package)
    return Found(
        name,
        {way: median(times) / 1e6 for way, times in samples.items()},
        ran_on,
        failed,
        took,
        _loads(ran_on[AUTO], package),
        samples,
    )


def _race(name: str, package: Path) -> tuple[dict[str, list[int]], dict[str, str], dict[str, str]]:
    """Start every contender, and let them take turns until each has had as many as the others."""
    ran_on: dict[str, str] = {}
    failed: dict[str, str] = {}
    samples: dict[str, list[int]] = {}
    with ExitStack() as stack:
        running: dict[str, Popen[str]] = {}
        for way in WAYS:
            process = child(contenders.contend, way, name, package)
            stack.callback(_end, process)
            try:
                said = line(process)  # one after the other: compiling takes all cores
            except ValueError:
                failed[way] = "it could not be built; see stderr"
                print(f"{way}: {failed[way]}", file=sys.stderr)
                continue
            running[way], ran_on[way] = process, said["ran_on"]
            samples[way] = []
        counts = {way: _turn(_timed(process, 3)) for way, process in running.items()}
        order = list(running)
        for _ in range(_ROUNDS):
            for way in order:
                samples[way] += _timed(running[way], counts[way])
            order.append(order.pop(0))
    return samples, ran_on, failed


def _turn(first: Sequence[int]) -> int:
    return max(3, int(_TURN_S * 1e9 / max(1, median(first))))


def _timed(process: Popen[str], count: int) -> list[int]:
    stdin = cast("IO[str]", process.stdin)
    stdin.write(f"{count}\n")
    stdin.flush()
    found: list[int] = line(process)
    return found


def _end(process: Popen[str]) -> None:
    cast("IO[str]", process.stdin).close()
    try:
        process.wait(_STOP_S)
    except TimeoutExpired:
        process.kill()
        process.wait()
    cast("IO[str]", process.stdout).close()


def _loads(ran_on: str, package: Path) -> tuple[float, float]:
    """Load on the chosen engine with an empty cache, and again in another process."""
    cache = FOLDER / "engines" / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    target = ran_on.split(maxsplit=1)[0]
    first, second = (fresh(contenders.load, target, "float32", package, cache) for _ in range(2))
    shutil.rmtree(cache, ignore_errors=True)
    return first, second


def _overhead(target: str) -> tuple[float, float]:
    """Return the p50 in µs of a session and of the engine by hand, for a model of no work."""
    package = FOLDER / "small-engines.eipack"
    if not package.exists():
        fresh(children.make, "small", package, "torchscript", "exported", "onnx")
    session, by_hand = fresh(contenders.overhead, target, package, 4000)
    return session / 1e3, by_hand / 1e3


def _best_rival(found: Found) -> str:
    there = [way for way in contenders.RIVALS if way in found.p50_ms]
    return min(there, key=lambda way: found.p50_ms[way])


def _ratio(found: Found, way: str, other: str) -> float:
    return found.p50_ms[way] / found.p50_ms[other]


def _mean(values: Sequence[float]) -> float:
    """Return the geometric mean."""
    return exp(sum(map(log, values)) / len(values))


def _figures(found: Sequence[Found], overheads: Mapping[str, tuple[float, float]]) -> list[Figure]:
    rows = [_against_best(one) for one in found]
    return [
        *rows,
        _geometric("`cpu+auto` against eager PyTorch", 1 / 2.2, AUTO, lambda _: "eager", found),
        _geometric(
            "`cpu+auto` with bfloat16 against the best float32 rival",
            1 / 1.6,
            HALF,
            _best_rival,
            found,
        ),
        _geometric("`cpu+onednn` against eager PyTorch", 1 / 1.5, ONEDNN, lambda _: "eager", found),
        *(_overhead_figure(target, *pair) for target, pair in overheads.items()),
        _loading(found),
        *(_tuning(one) for one in found if one.model == _TUNED_ALONE),
    ]


def _against_best(found: Found) -> Figure:
    best = _best_rival(found)
    detail = (
        f"{found.ran_on[AUTO]}: {found.p50_ms[AUTO]:.2f} ms against {found.p50_ms[best]:.2f} ms "
        f"of {best}"
    )
    return _figure(
        f"`cpu+auto` against the best rival, {TITLES[found.model]}",
        1.05,
        _ratio(found, AUTO, best),
        "x",
        detail,
    )


def _geometric(what: str, asked: float, way: str, other: Any, found: Sequence[Found]) -> Figure:
    there = [one for one in found if way in one.p50_ms]
    ratios = [_ratio(one, way, other(one)) for one in there]
    mean = _mean(ratios)
    detail = f"{1 / mean:.2f}x faster, geometric mean of {len(ratios)} models"
    return _figure(what, asked, mean, "x", detail, ratios)


def _overhead_figure(target: str, session: float, by_hand: float) -> Figure:
    detail = f"{session:.1f} µs against {by_hand:.1f} µs by hand"
    what = f"session call on `{target}` beyond the engine called by hand"
    return _figure(what, 20.0, session - by_hand, "µs", detail)


def _loading(found: Sequence[Found]) -> Figure:
    ratios = [second / first for first, second in (one.load_s for one in found)]
    worst = max(found, key=lambda one: one.load_s[1] / one.load_s[0])
    detail = (
        f"median of {len(found)} models; the worst is {TITLES[worst.model]}, "
        f"{worst.load_s[0]:.2f} s and then {worst.load_s[1]:.2f} s"
    )
    what = "load of a tuned package by a second process against the first"
    return _figure(what, 0.5, median(ratios), "x", detail, ratios)


def _tuning(found: Found) -> Figure:
    return _figure("`eipack tune` of ResNet-18 with all engines", 90.0, found.tune_s, "s", "")


def _figure(
    what: str,
    asked: float,
    measured: float,
    unit: str,
    detail: str,
    samples: Sequence[float] | None = None,
) -> Figure:
    return Figure(what, asked, measured, unit, detail, _COMMAND, tuple(samples or (measured,)))


def _table(found: Sequence[Found]) -> str:
    """Lay the medians out, a line a contender and a column a model."""
    lines = [["p50, ms", *(TITLES[one.model] for one in found)]]
    lines.append(["---"] * len(lines[0]))
    lines += [[way, *(_cell(one, way) for one in found)] for way in WAYS]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _cell(found: Found, way: str) -> str:
    if way not in found.p50_ms:
        return "failed"
    ran_on = found.ran_on[way]
    where = f" ({ran_on.split()[0]})" if way in (AUTO, HALF) else ""
    return f"{found.p50_ms[way]:.2f}{where}"


def _versions() -> str:
    said = []
    for name in _ENGINES:
        try:
            said.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            said.append(f"no {name}")
    return ", ".join(said)


def _write(found: Sequence[Found], figures: Sequence[Figure]) -> None:
    about = (
        f"{model_name()}, {len(os.sched_getaffinity(0))} cores, "
        f"Python {platform.python_version()}, {_versions()}, {datetime.now(UTC).date()}. "
        "Random weights, batch 1; each contender in a "
        f"process of its own, {_ROUNDS} turns each of a quarter of a second, the first call of a "
        "turn left out; medians of all calls in ms."
    )
    text = "\n\n".join(
        ("# Engines", about, _table(found), as_markdown(figures), f"Measured by `{_COMMAND}`.")
    )
    (_RESULTS / "engines.md").write_text(f"{text}\n", encoding="utf-8")
    raw = {"about": about, "models": [msgspec.to_builtins(one) for one in found]}
    (_RESULTS / "engines.json").write_text(json.dumps(raw) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
