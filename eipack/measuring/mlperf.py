"""The official MLPerf load generator (LoadGen) on a package, with the log files that it leaves."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args
from uuid import uuid4

from attrs import frozen

from eipack.children import Child, Lost, key_files
from eipack.errors import DependencyMissing, ExecutionFailed, PackageIOError
from eipack.measuring.given import leaves_of, write_inputs
from eipack.measuring.mlperf_logs import Log

if TYPE_CHECKING:
    from eipack.backend import Precision
    from eipack.package import Package
    from eipack.target import Target
    from eipack.trust import Trust

Name = Literal["SingleStream", "Server", "Offline"]

_PERCENTILES: Final[dict[Name, float]] = {"SingleStream": 90, "Server": 99, "Offline": 90}
"""What the rules of MLPerf inference ask for; an offline run has none, and none is used."""
_LOAD_S: Final = 300.0
_PATIENCE_S: Final = 120.0
_PATIENCE_CALLS: Final = 20


@frozen
class LoadGenResult:
    """What LoadGen found; it is `valid` if it kept LoadGen's own rules, else for the `reasons`.

    A sample is one call's inputs; offline with a batch size it is one row. `samples_per_s`
    is LoadGen's throughput. Latencies of an offline run count from its start, when all samples
    were there. `conservative_ms` is the estimate that early stopping gives for the percentile that
    was asked for, by its name (`p90_ms`), None where there were too few samples; only a single
    stream has one. `folder` has LoadGen's own files.
    """

    scenario: Name
    target: str
    folder: str
    loadgen: str
    valid: bool
    reasons: tuple[str, ...]
    samples: int
    samples_per_s: float
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    conservative_ms: Mapping[str, float | None]


def run(
    package: Package | str | os.PathLike[str],
    scenario: Name,
    folder: str | os.PathLike[str],
    *,
    target: str | Target = "cpu",
    rate_per_s: float | None = None,
    limit_ms: float | None = None,
    percentile: float | None = None,
    seconds: float = 60.0,
    batch: int | None = None,
    seed: int = 0,
    program: str | None = None,
    inputs: Any | None = None,
    trust: Trust = None,
    precision: Precision = "float32",
    threads: int | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> LoadGenResult:
    """Have LoadGen measure a package on a target for `seconds`, and leave its files in `folder`.

    `SingleStream` calls again as soon as it is answered. `Server` lets calls arrive as a Poisson
    process at `rate_per_s`, and wants `percentile` % of the latencies within `limit_ms`. `Offline`
    has all samples there at once, in batches of `batch` rows; how many there are follows
    from `rate_per_s`, or from calls that are made beforehand. `percentile` is 90 for a single
    stream and 99 for a server, as in the rules of MLPerf inference; these ask for 600 s. `seed`
    seeds LoadGen's schedule. The other arguments are those of `eipack.benchmark`.

    All of it happens in a process of its own, which ends in bounded time: LoadGen calls
    back from C++, where an error would end whoever called it. Outputs are held to the
    recorded ones first. The folder is there whole, or not at all.

    Raises:
        DependencyMissing: LoadGen is not installed.
        ExecutionFailed: The process failed, or gave no answer in time.
        PackageIOError: The folder is there and not empty, or cannot be made.
        ParityFailed: The outputs are not the recorded ones.
        UntrustedPackage: No trusted key has signed the package.
        EipackError: What loading or a call raised.
        ValueError: An argument means nothing, or a server lacks its rate or limit.
    """
    from eipack.package import Package

    quantile = _PERCENTILES.get(scenario, 0.0) if percentile is None else percentile
    _check(scenario, rate_per_s, limit_ms, quantile, seconds, batch)
    if find_spec("mlperf_loadgen") is None:
        raise DependencyMissing(
            'MLPerf\'s LoadGen is not installed; try: pip install "eipack[mlperf]"'
        )
    path = Path(folder)
    _require_free(path)
    with ExitStack() as stack:
        opened = package
        if not isinstance(opened, Package):
            opened = stack.enter_context(Package.open(opened))
        opened.check_trust(trust)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eipack-")))
        beside = _made(path.absolute().parent / f".{path.name}-{uuid4().hex}")
        stack.callback(shutil.rmtree, beside, ignore_errors=True)
        request = {
            "package": opened.path,
            "target": str(target),
            "program": program,
            "precision": precision,
            "threads": threads,
            "options": options,
            "trust": key_files(trust, scratch),
            "inputs": _inputs_file(opened, inputs, scratch),
            "batch": batch,
        }
        settings = {
            "scenario": scenario,
            "rate_per_s": rate_per_s,
            "limit_ms": limit_ms,
            "percentile": quantile,
            "seconds": seconds,
            "seed": seed,
            "folder": str(beside),
        }
        child = Child("eipack.measuring.mlperf_child", scratch)
        stack.callback(child.end)
        _measure(child, f"{opened.name} on {target}", request, settings)
        result = _result(scenario, str(target), path, Log(beside), quantile)
        _move(beside, path)
    return result


def _check(
    scenario: str,
    rate_per_s: float | None,
    limit_ms: float | None,
    percentile: float,
    seconds: float,
    batch: int | None,
) -> None:
    if scenario not in get_args(Name):
        raise ValueError(f"scenario is {scenario!r}; choose {', '.join(get_args(Name))}")
    if not 0 < seconds < inf:
        raise ValueError(f"seconds is {seconds!r}; give seconds above 0")
    if not 0 < percentile < 100:
        raise ValueError(f"percentile is {percentile!r}; give one between 0 and 100")
    if scenario == "Server" and (rate_per_s is None or limit_ms is None):
        raise ValueError("a server is measured at a rate_per_s, against a limit_ms; give both")
    for name, value in {"rate_per_s": rate_per_s, "limit_ms": limit_ms, "batch": batch}.items():
        if value is not None and not 0 < value < inf:
            raise ValueError(f"{name} is {value!r}; give a number above 0")
    if batch is not None and scenario != "Offline":
        raise ValueError(f"batch is for Offline; {scenario} runs the inputs as they are")


def _require_free(path: Path) -> None:
    try:
        taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
    except OSError as error:
        raise PackageIOError(f"{path} cannot be read: {error.strerror}") from error
    if taken:
        raise PackageIOError(f"{path} is there already and not empty; name a new folder")


def _made(path: Path) -> Path:
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise PackageIOError(f"{path.parent} cannot be written to: {error.strerror}") from error
    return path


def _move(beside: Path, path: Path) -> None:
    try:
        beside.rename(path)
    except OSError as error:
        raise PackageIOError(f"{path} cannot be made: {error.strerror}; name another") from error


def _inputs_file(package: Package, inputs: Any | None, scratch: Path) -> str | None:
    if inputs is None:
        return None
    leaves = leaves_of(package.signature, inputs)
    return write_inputs(scratch / "inputs.safetensors", package.signature, leaves)


def _measure(
    child: Child, where: str, request: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    try:
        call_s = child.call("open", _LOAD_S, **request)["call_s"]
        within_s = 3 * settings["seconds"] + _PATIENCE_S + _PATIENCE_CALLS * call_s
        child.call("run", within_s, **settings)
    except Lost as lost:
        if lost.error is not None:
            raise lost.error from lost
        raise ExecutionFailed(f"{where}: the run of LoadGen failed: {lost.reason}") from lost


def _result(scenario: Name, target: str, path: Path, log: Log, percentile: float) -> LoadGenResult:
    conservative: dict[str, float | None] = {}
    if scenario == "SingleStream":
        estimate_ms = float(log.value("early_stopping_latency_ss")) / 1e6
        conservative[f"p{percentile:g}_ms"] = estimate_ms or None
    samples = log.value("result_query_count") * log.value("generated_samples_per_query")
    rate = {
        "SingleStream": "result_qps_without_loadgen_overhead",
        "Server": "result_completed_samples_per_sec",
        "Offline": "result_samples_per_second",
    }[scenario]
    return LoadGenResult(
        scenario=scenario,
        target=target,
        folder=str(path),
        loadgen=str(log.value("loadgen_version")),
        valid=log.valid,
        reasons=log.reasons,
        samples=int(samples),
        samples_per_s=float(log.value(rate)),
        mean_ms=log.latency_ms("result_mean_latency"),
        p50_ms=log.latency_ms("result_50.00_percentile_latency"),
        p90_ms=log.latency_ms("result_90.00_percentile_latency"),
        p95_ms=log.latency_ms("result_95.00_percentile_latency"),
        p99_ms=log.latency_ms("result_99.00_percentile_latency"),
        conservative_ms=conservative,
    )
