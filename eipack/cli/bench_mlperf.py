"""`eipack bench --mlperf`: a run of MLPerf's own LoadGen, and what it found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eipack.cli.bench_options import STDOUT, limits_of
from eipack.cli.printing import note, print_facts, print_json
from eipack.cli.progress import stages
from eipack.errors import EipackError
from eipack.package.beside import write_beside
from eipack.statistics.figures import FIGURES

if TYPE_CHECKING:
    from eipack.measuring.mlperf import LoadGenResult

_NAMES = {"target": "targets", "program": "programs", "rate": "rate_per_s"}
_NOT_FOR_LOADGEN = (
    "until_stable",
    "concurrency",
    "offline",
    "in_process",
    "aa",
    "instance",
    "plot",
    "html",
)


def run_loadgen(
    ctx: click.Context, file: Path, session: Mapping[str, Any], report_file: Path | None
) -> None:
    """Run LoadGen on the one target that is named; exit with 1 where its run is not valid.

    Raises:
        UsageError: The command's other options do not say one run of LoadGen.
    """
    given = ctx.params
    _check(ctx)
    limits = limits_of(given)
    percentile = next((float(name[1:-3]) for name in limits if name != "mean_ms"), None)
    with stages(f"LoadGen measures {given['mlperf']}"):
        from eipack.measuring import mlperf

        try:
            result = mlperf.run(
                file,
                given["mlperf"],
                given["mlperf_dir"],
                target=next(iter(given["targets"]), "cpu"),
                program=next(iter(given["programs"]), None),
                rate_per_s=next(iter(given["rate_per_s"]), None),
                limit_ms=next(iter(limits.values()), None),
                percentile=percentile,
                seconds=given["duration_s"] or 60.0,
                batch=next(iter(given["batch"]), None),
                seed=given["seed"],
                **session,
            )
        except ValueError as error:
            if isinstance(error, EipackError):
                raise
            raise click.UsageError(str(error), ctx) from error
    _print(result, report_file)
    if not result.valid:
        note(f"error: LoadGen calls the run invalid: {'; '.join(result.reasons)}")
        ctx.exit(1)


def _check(ctx: click.Context) -> None:
    given = ctx.params
    if given["mlperf_dir"] is None:
        raise click.UsageError("--mlperf needs --mlperf-dir, where LoadGen leaves its files", ctx)
    for name in ("target", "program", "rate", "batch"):
        if len(given[_NAMES.get(name, name)]) > 1:
            raise click.UsageError(f"--mlperf makes one run; give one --{name}", ctx)
    if ctx.get_parameter_source("calls") is not click.core.ParameterSource.DEFAULT:
        raise click.UsageError("--calls is not for --mlperf; say --duration", ctx)
    limits = limits_of(given)
    if len(limits) > 1 or "mean_ms" in limits:
        raise click.UsageError("--mlperf takes one limit, on a percentile as --p99-ms", ctx)
    if given["mlperf"] == "Server" and not (given["rate_per_s"] and limits):
        raise click.UsageError("--mlperf Server needs --rate, and a limit such as --p99-ms", ctx)
    for name in _NOT_FOR_LOADGEN:
        if given[name]:
            option = "--" + name.replace("_", "-")
            raise click.UsageError(f"{option} is not for --mlperf, which LoadGen decides", ctx)


def _print(result: LoadGenResult, report_file: Path | None) -> None:
    from attrs import asdict

    if report_file == STDOUT:
        print_json(asdict(result))
        return
    if report_file is not None:
        data = json.dumps(asdict(result)).encode() + b"\n"
        write_beside(report_file, lambda place: place.write_bytes(data))
    facts = [
        ("LoadGen", f"{result.loadgen}, {result.scenario} on {result.target}"),
        ("verdict", "valid" if result.valid else f"invalid: {'; '.join(result.reasons)}"),
        ("samples", f"{result.samples:,}, {result.samples_per_s:,.1f} a second"),
        *((name, f"{getattr(result, name):.3f}") for name in FIGURES),
        *(
            (f"{name}, early stopping", f"{value:.3f}")
            for name, value in result.conservative_ms.items()
            if value is not None
        ),
        ("files", result.folder),
    ]
    if report_file is not None:
        facts.append(("report", str(report_file)))
    print_facts(facts)
