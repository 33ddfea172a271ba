"""`eipack.compare`: what changed between two reports, beyond noise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, Literal

from attrs import frozen

from eipack.errors import ReportRefused
from eipack.measuring.comparable import (
    Source,
    differences,
    name_of,
    noise_floor,
    read,
    refuse_other_package,
    unlike,
)
from eipack.measuring.report import Report, Row
from eipack.statistics.figures import FIGURES

if TYPE_CHECKING:
    from eipack.statistics.differences import Ratio

Verdict = Literal["faster", "slower", "same", "insufficient"]

JUDGED: Final = ("p50_ms", "p90_ms", "mean_ms")
"""What is judged by default."""

_FALSE_REPORTS: Final = 0.05


@frozen
class FigureChange:
    """One figure of a row in both reports; `ratio` is after divided by before.

    `low` and `high` are the bounds of its interval; those of all figures of a comparison hold
    together with 95 % confidence. The verdict is `slower` or `faster` where the interval excludes 1
    and the change exceeds the noise floor, and `insufficient` where there are too few calls for
    an interval (`high` is None then).
    """

    figure: str
    before: float
    after: float
    ratio: float
    low: float
    high: float | None
    verdict: Verdict


@frozen
class Beside:
    """A figure without samples of its own, which is shown without a verdict."""

    figure: str
    before: float | None
    after: float | None


@frozen
class RowChange:
    """One row that both reports have."""

    row: str
    target: str
    program: str | None
    scenario: str
    precision: str
    calls: tuple[int, int]
    figures: tuple[FigureChange, ...]
    beside: tuple[Beside, ...]


@frozen
class Changes:
    """What differs between two reports.

    `noise_floor` is the relative change below which nothing is said to differ. `only_before` and
    `only_after` name rows that the other report does not have, `failed_before` and `failed_after`
    those without figures and why, `newly_failed` those that failed in the second report alone.
    """

    schema_version: Literal[1]
    rows: tuple[RowChange, ...]
    noise_floor: float
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    failed_before: tuple[str, ...]
    failed_after: tuple[str, ...]
    newly_failed: tuple[str, ...]
    warnings: tuple[str, ...]

    def slower(self, max_regression: float = 0.0) -> tuple[tuple[RowChange, FigureChange], ...]:
        """Return what is slower, with confidence, by more than a share (0.05 is 5 %)."""
        return tuple(
            (row, figure)
            for row in self.rows
            for figure in row.figures
            if figure.verdict == "slower" and figure.low > 1 + max_regression
        )


def compare(
    before: Source,
    after: Source,
    *,
    figures: Sequence[str] = JUDGED,
    different_packages: bool = False,
) -> Changes:
    """Say what is slower or faster in a second report, beyond noise.

    Rows are matched by target, program, scenario and precision. If nothing changed, at most 5 % of
    all comparisons say that something did, however many rows and figures they have. Differences
    of machine and versions are warnings; reports of different packages are refused, unless
    `different_packages` allows them.

    Raises:
        ReportRefused: A file holds no report, the packages differ, or no row can be compared.
        PackageIOError: A file cannot be read.
        ValueError: No figure is named, or one that is no latency.
    """
    if not figures or set(figures) - set(FIGURES):
        raise ValueError(f"figures are some of {', '.join(FIGURES)}")
    first, second = read(before), read(after)
    refuse_other_package(first, second, allowed=different_packages)
    pairs = list(_pairs(first, second))
    matched = [(one, other) for one, other in pairs if one and other]
    if not matched:
        raise ReportRefused(
            "the two reports have no row in common that ran; compare like with like"
        )
    floor = noise_floor(first, second)
    confidence = 1 - _FALSE_REPORTS / (len(matched) * len(figures))
    rows = tuple(_row_change(one, other, figures, confidence, floor) for one, other in matched)
    if all(figure.verdict == "insufficient" for row in rows for figure in row.figures):
        counts = max(min(row.calls) for row in rows)
        raise ReportRefused(
            f"the rows of a report have too few calls to be compared ({counts} at most); "
            "measure again with --calls 1000"
        )
    failed = [{name_of(row): row for row in report.rows if row.error} for report in (first, second)]
    return Changes(
        schema_version=1,
        rows=rows,
        noise_floor=floor,
        only_before=tuple(name_of(one) for one, other in pairs if one and not other),
        only_after=tuple(name_of(other) for one, other in pairs if other and not one),
        failed_before=tuple(f"{name}: {row.error}" for name, row in failed[0].items()),
        failed_after=tuple(f"{name}: {row.error}" for name, row in failed[1].items()),
        newly_failed=tuple(name for name in failed[1] if name not in failed[0]),
        warnings=(*differences(first, second), *unlike(matched)),
    )


def _pairs(before: Report, after: Report) -> Iterator[tuple[Row | None, Row | None]]:
    """Match rows that ran; of several that are alike the first meets the first."""
    alike: dict[Any, tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
    for side, report in enumerate((before, after)):
        for row in report.rows:
            if row.error is None:
                program = (row.kind, row.method) if row.kind else row.program
                alike[row.target, program, row.scenario, row.precision][side].append(row)
    for ones, others in alike.values():
        yield from zip_longest(ones, others)


def _row_change(
    before: Row, after: Row, figures: Sequence[str], confidence: float, floor: float
) -> RowChange:
    return RowChange(
        row=name_of(before),
        target=before.target,
        program=before.program,
        scenario=str(before.scenario),
        precision=before.precision,
        calls=(len(before.samples_ns), len(after.samples_ns)),
        figures=tuple(_figure(before, after, one, confidence, floor) for one in figures),
        beside=tuple(_beside(before, after)),
    )


def _figure(before: Row, after: Row, name: str, confidence: float, floor: float) -> FigureChange:
    from eipack.statistics.differences import ratio

    try:
        found = ratio(
            before.samples_ns,
            after.samples_ns,
            FIGURES[name],
            before.turns or None,
            after.turns or None,
            confidence=confidence,
        )
    except ValueError as error:
        raise ReportRefused(
            f"{name_of(before)} cannot be compared: {error}; measure both reports again",
        ) from error
    return FigureChange(
        figure=name,
        before=_value(before, name),
        after=_value(after, name),
        ratio=found.value,
        low=found.low,
        high=found.high if isfinite(found.high) else None,
        verdict=_verdict(found, floor),
    )


def _value(row: Row, name: str) -> float:
    from eipack.statistics.percentiles import mean_ms, percentile_ms

    percent = FIGURES[name]
    samples = row.samples_ns
    return mean_ms(samples) if percent == "mean" else percentile_ms(samples, percent)


def _verdict(found: Ratio, floor: float) -> Verdict:
    if not isfinite(found.high) or found.low <= 0:
        return "insufficient"
    if found.low > 1 and found.value > 1 + floor:
        return "slower"
    if found.high < 1 and found.value < 1 - floor:
        return "faster"
    return "same"


def _beside(before: Row, after: Row) -> Iterator[Beside]:
    for name in ("calls_per_s", "rows_per_s", "cold_start_ms", "load_ms", "first_ms"):
        yield Beside(name, getattr(before, name), getattr(after, name))
    for name in ("host_peak_bytes", "device_peak_bytes"):
        yield Beside(name, getattr(before.resources, name), getattr(after.resources, name))
