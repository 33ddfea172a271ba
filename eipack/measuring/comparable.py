"""Whether two reports can be compared, and what makes that less than certain."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from eipack.errors import ReportRefused
from eipack.measuring.report import Report, Row

Source = Report | str | os.PathLike[str]

LEAST_FLOOR: Final = 0.03
"""Two runs at different times are not told apart below this, whatever their A/A runs found."""
_NOISY: Final = 0.1

_ENVIRONMENT: Final = (
    "machine", "instance", "cores", "memory_bytes", "system", "python", "torch", "threads", "eipack"
)  # fmt: skip


def read(source: Source) -> Report:
    """Return a report, or read its file.

    Raises:
        ReportRefused: The file holds no report, or one of another schema.
        PackageIOError: It cannot be read.
    """
    if isinstance(source, Report):
        return source
    from eipack.archive.faults import translated

    path = Path(source)
    with translated(str(path), "read"):
        data = path.read_bytes()
    try:
        return Report.from_json(data)
    except ReportRefused as error:
        raise ReportRefused(f"{path}: {error}", path=str(path)) from error


def name_of(row: Row) -> str:
    """Name a row by what it does not share with most."""
    parts = [row.target, row.program, str(row.scenario), row.precision]
    return ", ".join(part for part in parts if part and part not in {"single-stream", "float32"})


def noise_floor(before: Report, after: Report) -> float:
    """Return the relative change that two reports cannot tell from noise."""
    found = [report.noise.floor for report in (before, after) if report.noise is not None]
    return max([LEAST_FLOOR, *found])


def refuse_other_package(before: Report, after: Report, *, allowed: bool) -> None:
    """Check that both reports are of one package.

    Raises:
        ReportRefused: They are not, and it is not `allowed`.
    """
    if allowed or before.environment.package_digest == after.environment.package_digest:
        return
    raise ReportRefused(
        f"the reports are of different packages ({_package(before)} and {_package(after)}); "
        "to compare them all the same, say --different-packages"
    )


def differences(before: Report, after: Report) -> Iterator[str]:
    """Say in what the packages, the machines and the versions differ."""
    one, other = before.environment, after.environment
    if one.package_digest != other.package_digest:
        yield f"the packages differ: {_package(before)}, then {_package(after)}"
    for name in _ENVIRONMENT:
        values = getattr(one, name), getattr(other, name)
        if values[0] != values[1]:
            told = ("unknown" if value is None else str(value) for value in values)
            yield f"{name} differs: {', then '.join(told)}"
    for name in sorted({*one.libraries, *other.libraries}):
        if one.libraries.get(name) != other.libraries.get(name):
            versions = (
                libraries.get(name, "none") for libraries in (one.libraries, other.libraries)
            )
            yield f"{name} differs: {', then '.join(versions)}"
    for report, which in ((before, "first"), (after, "second")):
        if report.noise is None:
            yield f"the {which} report has no A/A run; changes below {LEAST_FLOOR:.0%} are noise"
        elif report.noise.floor > _NOISY:
            yield (
                f"the A/A run of the {which} report differs by up to {report.noise.floor:.0%}, and "
                "smaller changes pass for noise; measure again while the machine is idle"
            )


def unlike(matched: Sequence[tuple[Row, Row]]) -> Iterator[str]:
    """Say which rows drifted, and which ran with other numbers of threads."""
    for one, other in matched:
        for row, which in ((one, "first"), (other, "second")):
            if row.stable is False:
                yield f"{name_of(row)} drifted in the {which} report: a change may be the drift"
        if one.threads != other.threads:
            yield f"{name_of(one)}: threads differ: {one.threads}, then {other.threads}"


def _package(report: Report) -> str:
    where = report.environment
    return f"{where.package} {where.package_digest.rpartition(':')[2][:12]}"
