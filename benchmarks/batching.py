"""What batches across clients are worth: 32 connections of 8 processes to one accelerator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from subprocess import Popen
from typing import IO, cast

from attrs import frozen

from benchmarks import clients
from benchmarks.figure import Figure, run
from benchmarks.processes import FOLDER, child, fresh, line

REPEAT = 3
_PROCESSES = 8
_THREADS = 4
_SECONDS = 4.0
_ROWS = 32


@frozen
class _Reading:
    """Calls a second, the latency that one in a hundred exceeds, and the batches' mean size."""

    per_second: float
    p50_ms: float
    p99_ms: float
    mean_rows: float


def measure(repeat: int = REPEAT) -> list[Figure]:
    """Flood a server that makes batches and one that makes none, taking turns, all of it fresh.

    The model is an MLP of 512-2048-2048-512, each call has one row.
    """
    path = FOLDER / "batchable.eipack"
    fresh(clients.make_batchable, path)
    off: list[_Reading] = []
    on: list[_Reading] = []
    for turn in range(repeat):
        both = [(off, 1), (on, _ROWS)]
        for readings, rows in both if turn % 2 else both[::-1]:
            readings.append(_reading(path, rows))
    return [_figure(off, on)]


def _figure(off: Sequence[_Reading], on: Sequence[_Reading]) -> Figure:
    rates = [median(one.per_second for one in readings) for readings in (off, on)]
    rows = median(one.mean_rows for one in on)
    return Figure(
        what="throughput of 32 clients without batches against the same with them, MLP, 1 row",
        asked=1 / 1.5,
        measured=rates[0] / rates[1],
        unit="x",
        detail=(
            f"{rates[1] / rates[0]:.2f}x more: off {_said(off)}; on {_said(on)}, "
            f"{rows:.1f} rows a batch"
        ),
        command="python -m benchmarks.batching",
        samples=tuple(a.per_second / b.per_second for a, b in zip(off, on, strict=True)),
    )


def _said(readings: Sequence[_Reading]) -> str:
    rate, p50, p99 = (
        median(values)
        for values in zip(*((r.per_second, r.p50_ms, r.p99_ms) for r in readings), strict=True)
    )
    return f"{rate:.0f}/s, P50 {p50:.1f} ms, P99 {p99:.1f} ms"


def _reading(path: Path, rows: int) -> _Reading:
    with serving("--max-batch", str(rows)) as endpoint, ExitStack() as stack:
        floods = [
            stack.enter_context(ending(child(clients.flood, endpoint, path, _THREADS, _SECONDS)))
            for _ in range(_PROCESSES)
        ]
        for one in floods:
            line(one)
        before = fresh(clients.settle, endpoint)
        if (before["batching"] == "on") != (rows > 1):
            raise RuntimeError(f"batches of {rows}: {before['batching']}")
        for one in floods:
            begin(one)
        latencies = sorted(latency for one in floods for latency in line(one))
        after = fresh(clients.settle, endpoint)
    return _Reading(
        per_second=len(latencies) / _SECONDS,
        p50_ms=latencies[len(latencies) // 2] / 1e6,
        p99_ms=latencies[len(latencies) * 99 // 100] / 1e6,
        mean_rows=_mean_rows(after["batches"]),
    )


def _mean_rows(batches: Sequence[dict[str, object]]) -> float:
    counts = {int(str(one["batch_size"])): _count(one) for one in batches}
    rows = sum(size * count for size, count in counts.items())
    return rows / max(1, sum(counts.values()))


def _count(one: dict[str, object]) -> int:
    infer = one["compute_infer"]
    return int(infer["count"]) if isinstance(infer, dict) else 0


def begin(process: Popen[str]) -> None:
    """Wake a client that waits for a line."""
    stdin = cast("IO[str]", process.stdin)
    stdin.write("\n")
    stdin.flush()


@contextmanager
def serving(*words: str) -> Iterator[str]:
    """Run an accelerator until the block ends; give its address."""
    with ending(child(clients.serve, *words)) as server:
        yield line(server)["endpoint"]
        server.terminate()


@contextmanager
def ending(process: Popen[str]) -> Iterator[Popen[str]]:
    """Let a process end when the block does, and end it if that fails."""
    try:
        yield process
    except BaseException:
        process.terminate()
        raise
    finally:
        process.communicate()


if __name__ == "__main__":
    run(measure, REPEAT)
