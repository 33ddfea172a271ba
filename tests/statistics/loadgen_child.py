"""Let LoadGen judge random latencies: `loadgen_child.py FOLDER RUNS SEED`, one JSON line a run.

LoadGen takes no latencies, so each run answers its queries after random times, and what LoadGen
measured is read from its trace. LoadGen has global state, which is why this is no module of a test.
"""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path
from time import perf_counter_ns

import mlperf_loadgen as loadgen

PERCENTS = (50, 80, 90, 95, 97, 99)


def answer_late(generator: random.Random):
    def issue(queries: list) -> None:
        for query in queries:
            answer_at = perf_counter_ns() + generator.lognormvariate(8, 1)
            while perf_counter_ns() < answer_at:
                pass
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(query.id, 0, 0)])

    return issue


def settings(percent: float, calls: int) -> loadgen.TestSettings:
    made = loadgen.TestSettings()
    made.scenario = loadgen.TestScenario.SingleStream
    made.mode = loadgen.TestMode.PerformanceOnly
    made.single_stream_target_latency_percentile = percent / 100
    made.min_duration_ms = 0
    made.min_query_count = made.max_query_count = calls
    return made


def log_settings(folder: Path) -> loadgen.LogSettings:
    made = loadgen.LogSettings()
    made.log_output.outdir = str(folder)
    made.log_output.copy_summary_to_stdout = False
    made.enable_trace = True
    return made


def found(folder: Path) -> dict[str, object]:
    trace = (folder / "mlperf_log_trace.json").read_text()
    times = re.findall(r'"issue_start_ns":(\d+),"complete_ns":(\d+)', trace)
    summary = (folder / "mlperf_log_summary.txt").read_text()
    estimates = re.findall(r"Early stopping ([\d.]+)th percentile estimate: (\d+)", summary)
    longest = re.search(r"Max latency \(ns\) *: (\d+)", summary)
    needed = re.search(r"Need to process at least (\d+) queries", summary)
    return {
        "samples_ns": [int(end) - int(start) for start, end in times],
        "max_ns": int(longest[1]) if longest else None,
        "estimates": {float(percent): int(value) for percent, value in estimates},
        "needed": int(needed[1]) if needed else None,
    }


def main() -> None:
    folder, runs, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    generator = random.Random(seed)
    sut = loadgen.ConstructSUT(answer_late(generator), lambda: None)
    library = loadgen.ConstructQSL(1, 1, lambda _: None, lambda _: None)
    for _ in range(runs):
        calls, percent = generator.randint(64, 2000), generator.choice(PERCENTS)
        loadgen.StartTestWithLogSettings(
            sut, library, settings(percent, calls), log_settings(folder)
        )
        line = json.dumps({"percent": percent, "calls": calls, **found(folder)})
        sys.stdout.write(f"{line}\n")
    loadgen.DestroyQSL(library)
    loadgen.DestroySUT(sut)


if __name__ == "__main__":
    main()
