"""What a report's figures rest on, as labelled lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eipack.cli.printing import plural, size_text
from eipack.pictures.wording import calls_of, day_of, package_of, versions_of

if TYPE_CHECKING:
    from eipack.measuring.report import Report


def facts_of(report: Report) -> list[tuple[str, str]]:
    """Return the environment and the settings."""
    where, asked = report.environment, report.settings
    facts = [
        ("package", package_of(where)),
        ("package digest", where.package_digest),
        ("weights and one call's inputs", _sizes(report)),
        ("machine", where.machine),
        ("instance", where.instance or "not known"),
        ("cores, memory", f"{where.cores:,}, {size_text(where.memory_bytes)}"),
        ("system", where.system),
        ("versions", ", ".join(versions_of(where))),
        ("torch threads", f"{where.threads:,}"),
        ("began", day_of(where.date)),
        ("calls", _asked(report)),
        (
            "processes",
            "all in this one" if asked.in_process else "a fresh one for each target and program",
        ),
        ("percentiles", report.percentile),
        ("seed", str(asked.seed)),
        ("noise floor", "not measured" if report.noise is None else f"{report.noise.floor:.2%}"),
    ]
    given = ((str(name), value) for name, value in sorted(asked.flags.items()))
    return facts + [(name, str(value)) for name, value in given if value not in (None, {}, [], "")]


def _sizes(report: Report) -> str:
    where = report.environment
    return f"{size_text(where.weights_bytes)}, {size_text(where.input_bytes)}"


def _asked(report: Report) -> str:
    asked = report.settings
    wanted = "" if asked.calls is None else f", {plural(asked.calls, 'call')} asked for"
    wanted += "" if asked.duration_s is None else f", {asked.duration_s:g} s a row"
    return calls_of(report) + wanted + (", until stable" if asked.until_stable else "")
