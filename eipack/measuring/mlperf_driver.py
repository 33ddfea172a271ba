"""One test of LoadGen's: its settings, its log files, and the callbacks it makes from C++."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any, Final

_BACKLOG_NS: Final = 5_000_000_000
_MARGIN: Final = 1.25
"""LoadGen makes its samples beforehand, and too few would end the run before its time."""

Issue = Callable[[Sequence[Any]], None]


def drive(asked: Mapping[str, Any], fastest_ns: int, issue: Issue) -> None:
    """Run one test; `issue` is given samples, and `complete` is to be called with their ids.

    `fastest_ns` is the shortest latency seen so far.
    """
    import mlperf_loadgen as lg  # type: ignore[import-not-found,unused-ignore]

    output = lg.LogOutputSettings()
    output.outdir = asked["folder"]
    logs = lg.LogSettings()
    logs.log_output = output
    logs.enable_trace = False
    # The inputs are one call's, and lie in memory already.
    library = lg.ConstructQSL(1, 1, _nothing, _nothing)
    system = lg.ConstructSUT(issue, _nothing_to_flush)
    try:
        lg.StartTestWithLogSettings(system, library, _settings(asked, fastest_ns), logs)
    finally:
        lg.DestroySUT(system)
        lg.DestroyQSL(library)


def complete(samples: Sequence[int]) -> None:
    """Tell LoadGen that samples are answered; it is given no outputs, since it checks none."""
    import mlperf_loadgen as lg

    lg.QuerySamplesComplete([lg.QuerySampleResponse(sample, 0, 0) for sample in samples])


def _settings(asked: Mapping[str, Any], fastest_ns: int) -> Any:
    import mlperf_loadgen as lg

    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, asked["scenario"])
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = ceil(asked["seconds"] * 1000)
    settings.min_query_count = 1  # whether they suffice is for early stopping to say
    for seed in ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed"):
        setattr(settings, seed, asked["seed"])
    quantile = asked["percentile"] / 100
    match asked["scenario"]:
        case "SingleStream":
            settings.single_stream_expected_latency_ns = max(1, int(fastest_ns / _MARGIN))
            settings.single_stream_target_latency_percentile = quantile
        case "Server":
            settings.server_target_qps = asked["rate_per_s"]
            settings.server_target_latency_ns = ceil(asked["limit_ms"] * 1e6)
            settings.server_target_latency_percentile = quantile
            # An overloaded run ends when about 5 s of calls wait, and is invalid.
            settings.server_max_async_queries = max(64, ceil(_BACKLOG_NS / fastest_ns))
        case _:
            settings.offline_expected_qps = asked["rate_per_s"] * _MARGIN
    return settings


def _nothing(_: Sequence[int]) -> None:
    return


def _nothing_to_flush() -> None:
    return
