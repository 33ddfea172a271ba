"""Latencies that were measured elsewhere: reports by their files, and tables of figures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from attrs import evolve

from eipack.advisor.candidates import Candidate, of_report
from eipack.advisor.prices import Catalogue, is_attached
from eipack.advisor.tables import Line, read_table
from eipack.errors import ReportRefused, TargetSyntaxError
from eipack.measuring.comparable import read
from eipack.measuring.report import Report, Row
from eipack.statistics.figures import FIGURES
from eipack.target import Target

REQUIRED: Final = ("instance", "mean_ms")
COLUMNS: Final = ("instance", "accelerator", "target", *FIGURES)
Measured = Report | str | os.PathLike[str]


def candidates_of(
    measured: Sequence[Measured], instance: str | None, catalogue: Catalogue
) -> list[Candidate]:
    """Return what all of the reports and tables say, in their order.

    `instance` is that of reports which name none. The catalogue says which machines have a
    GPU, for tables that do not.

    Raises:
        ReportRefused: One cannot be read, has no rows, or nobody says where it was measured.
    """
    found: list[Candidate] = []
    for number, one in enumerate(measured, start=1):
        if isinstance(one, Report):
            found += _of_report(one, instance, f"report {number}")
            continue
        path, named = _split(os.fspath(one))
        if path.lower().endswith(".csv"):
            if named is not None:
                raise ReportRefused(f"{path} names its instances itself; leave out @{named}")
            found += _of_table(path, catalogue)
        else:
            found += _of_report(_read(path, named), instance, path)
    return found


def _split(text: str) -> tuple[str, str | None]:
    """Part `report.json@c5.large`; a file may have an @ in its name."""
    path, at, named = text.rpartition("@")
    is_file = Path(path).exists() or path.lower().endswith((".json", ".csv"))
    suffixed = at and named and is_file and not Path(text).exists()
    return (path, named) if suffixed else (text, None)


def _read(path: str, instance: str | None) -> Report:
    report = read(path)
    if instance is None:
        return report
    return evolve(report, environment=evolve(report.environment, instance=instance))


def _of_report(report: Report, instance: str | None, source: str) -> list[Candidate]:
    where = report.environment.instance or instance
    if where is None:
        raise ReportRefused(
            f"{source} does not say on which instance it was measured; say it: "
            f"--instance c5.large, or {source}@c5.large for this report alone",
            source=source,
        )
    if not report.rows:
        raise ReportRefused(f"{source} has no rows; measure again with eipack bench", source=source)
    return of_report(report, where, source)


def _of_table(path: str, catalogue: Catalogue) -> Iterator[Candidate]:
    lines = read_table(path, required=REQUIRED, known=COLUMNS, aliases={"host": "instance"})
    with_gpu = {
        price.instance
        for price in catalogue.prices
        if price.accelerator is not None and not is_attached(price.accelerator)
    }
    for line in lines:
        instance = line.text("instance")
        _check_built_in(line, instance, catalogue)
        row = _row(line, has_gpu=instance in with_gpu)
        yield Candidate(instance, line.place, row, (row,))


def _check_built_in(line: Line, instance: str, catalogue: Catalogue) -> None:
    """Refuse a GPU in a machine whose price is that of one without it, or with another."""
    accelerator = line.cells.get("accelerator")
    if accelerator is None or is_attached(accelerator):
        return
    of_instance = {
        price.accelerator
        for price in catalogue.prices
        if price.instance == instance and not is_attached(price.accelerator)
    }
    if catalogue.says_gpus and of_instance and accelerator not in of_instance:
        has = next(iter(sorted(filter(None, of_instance))), "none")
        raise line.wrong(
            f"{instance} has no {accelerator} in the catalogue {catalogue.name} (it has {has}), so "
            "its price is not known; correct the line, or name prices of your own: "
            "--prices FILE.csv"
        )


def _row(line: Line, *, has_gpu: bool) -> Row:
    line.text("mean_ms")
    mean_ms, *percentiles = (line.positive(figure) for figure in FIGURES)
    known = [value for value in percentiles if value is not None]
    if known != sorted(known):
        raise line.wrong("a higher percentile is below a lower one; check the columns")
    target = _target(line, has_gpu=has_gpu)
    accelerator = line.cells.get("accelerator") if target.device == "eia" else None
    row = Row(str(target), accelerator=accelerator, mean_ms=mean_ms)
    p50_ms, p90_ms, p95_ms, p99_ms = percentiles
    return evolve(row, p50_ms=p50_ms, p90_ms=p90_ms, p95_ms=p95_ms, p99_ms=p99_ms)


def _target(line: Line, *, has_gpu: bool) -> Target:
    """Return the target of a line; without one, what the accelerator or the machine stands for."""
    accelerator = line.cells.get("accelerator")
    if "target" not in line.cells:
        if is_attached(accelerator):
            return Target("eia", ordinal=0)
        return Target("cuda", ordinal=0) if has_gpu or accelerator else Target("cpu")
    try:
        return Target.parse(line.cells["target"])
    except TargetSyntaxError as error:
        raise line.wrong(str(error)) from error
