"""The page of a report: one file that holds everything, to read anywhere and to send around."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eipack.measuring.noise import fastest_of
from eipack.pictures import curves, split, strips, sweep, timeline
from eipack.pictures.again import command
from eipack.pictures.facts import facts_of
from eipack.pictures.markup import Chart, chart, check_name, save
from eipack.pictures.sheet import Sheet
from eipack.pictures.styles import drawing
from eipack.pictures.tables import resources, summary
from eipack.pictures.wording import (
    calls_of,
    day_of,
    figure,
    machine_of,
    measured,
    name_of,
    package_of,
)

if TYPE_CHECKING:
    from eipack.measuring.report import Report

_READING: Final = (
    "Latencies in ms, from a call to its outputs on the host; under them, where there were enough "
    "calls, the 95 % confidence interval. MLPerf's are those of its rule of early stopping."
)
_LEGEND: Final = 0.32
_AXIS: Final = 0.5
_LEFT: Final = 0.8


def write(report: Report, path: Path) -> Path:
    """Write a report as a page that needs no other file, no network and no script.

    Equal reports give equal bytes.

    Raises:
        PictureRefused: The path does not end in .html.
        PackageIOError: The file cannot be written.
    """
    check_name(path)
    with drawing():
        charts = list(_charts(report))
    where = report.environment
    return save(
        path,
        "report.html",
        title=f"Latency of {package_of(where)}",
        kicker="Benchmark by eipack",
        lead=[_fastest(report), f"{machine_of(where)} · {day_of(where.date)} · {calls_of(report)}"],
        summary=summary(report),
        notes=_notes(report),
        charts=charts,
        resources=resources(report),
        facts=facts_of(report),
        again=command(report),
        footer=f"Written by eipack {where.eipack} from a report of {day_of(where.date)}.",
    )


def _fastest(report: Report) -> str:
    good = measured(report.rows)
    if not good:
        return "Every row failed."
    first = fastest_of(report)
    if len(first) == 1:
        return f"{name_of(first[0])} is the fastest: p50 {figure(first[0].p50_ms)} ms."
    return f"{len(good)} of {len(report.rows)} rows have figures."


def _notes(report: Report) -> list[str]:
    notes = [_READING]
    if report.noise is not None:
        notes.append(
            f"Noise floor: {report.noise.floor:.1%}. {report.noise.target} measured against itself "
            f"differed by a factor of {report.noise.ratio:.3f} "
            f"({report.noise.low:.3f} to {report.noise.high:.3f}); less than that is a tie."
        )
    return notes


def _charts(report: Report) -> Iterator[Chart]:
    rows = report.rows
    if not measured(rows):
        return
    sheet = Sheet.blank(_LEGEND + strips.height_of(rows) + _AXIS)
    sheet.legend(0.04, strips.legend_handles(rows))
    strips.draw(sheet.panel(_LEGEND, strips.height_of(rows)), rows)
    text = "How the latencies of each row are spread; further left is faster."
    yield chart(sheet.figure, "spread", "Distributions", text)
    loads = sweep.series_of(rows)
    if loads:
        sheet = Sheet.blank(0.1 + sweep.height_of(loads))
        sweep.draw(sheet.panel(0.1, sweep.HEIGHT, left=_LEFT), loads)
        text = "How much was answered, and how long that took: further right and down is better."
        yield chart(sheet.figure, "load", "Latency under load", text)
    if curves.sampled(rows):
        sheet = Sheet.blank(0.1 + curves.height_of(rows))
        curves.draw(sheet.panel(0.1, curves.HEIGHT, left=_LEFT), rows)
        text = (
            "Marks are at p50, p90 and p99. The axis spreads out the slowest calls; at its far end "
            "a line rests on very few of them."
        )
        yield chart(sheet.figure, "percentiles", "Percentiles", text)
        text = (
            "Dots are medians of neighbouring calls, bars reach from the fastest to the slowest of "
            "them. Each row has its own scale."
        )
        drawn = timeline.sheet_of(rows).figure
        yield chart(drawn, "timeline", "Over the time of the run", text)
    if split.split_rows(rows):
        sheet = Sheet.blank(_LEGEND + split.height_of(rows) + _AXIS)
        panel = sheet.panel(_LEGEND, split.height_of(rows))
        split.draw(panel, rows)
        sheet.legend(0.04, panel.get_legend_handles_labels()[0])
        text = (
            "Medians of the parts of remote calls: on the wire, waiting for the device, computing."
        )
        yield chart(sheet.figure, "parts", "Network, queue and compute", text)
