"""How to measure a report again: the command that asks for its rows."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from eipack.cli.printing import printable

if TYPE_CHECKING:
    from eipack.measuring.report import Report


def command(report: Report) -> list[str]:
    """Return the lines of a shell command, an option a line; what is the default is left out."""
    file = _quoted(f"{report.environment.package}.eipack")
    *lines, last = (f"eipack bench {file}", *(f"    {option}" for option in _options(report)))
    return [*(f"{line} \\" for line in lines), last]


def _quoted(text: str) -> str:
    return shlex.quote(printable(text))


def _options(report: Report) -> Iterator[str]:
    asked, flags = report.settings, report.settings.flags
    yield from (f"--target {_quoted(one)}" for one in _unique(row.target for row in report.rows))
    yield from (f"--program {_quoted(one)}" for one in _programs(report))
    yield from _loads(report)
    if asked.calls is not None:
        yield f"--calls {asked.calls}"
    if asked.duration_s is not None:
        yield f"--duration {asked.duration_s:g}s"
    if asked.until_stable:
        yield "--until-stable"
    if asked.seed:
        yield f"--seed {asked.seed}"
    if asked.in_process:
        yield "--in-process"
    if flags.get("precision", "float32") != "float32":
        yield f"--precision {_quoted(str(flags['precision']))}"
    if flags.get("threads"):
        yield f"--threads {_quoted(str(flags['threads']))}"
    for engine, options in (flags.get("options") or {}).items():
        for name, value in options.items():
            yield f"--option {_quoted(f'{engine}.{name}={json.dumps(value)}')}"


def _loads(report: Report) -> Iterator[str]:
    offered = [row.scenario for row in report.rows]
    lists: dict[str, list[Any]] = {
        "concurrency": _unique(one.concurrency for one in offered if one.name == "closed-loop"),
        "rate": _unique(f"{one.rate_per_s:g}" for one in offered if one.rate_per_s),
        "batch": _unique(one.batch for one in offered if one.batch),
    }
    yield from (f"--{name} {','.join(map(str, sizes))}" for name, sizes in lists.items() if sizes)
    if any(one.name == "offline" for one in offered):
        yield "--offline"


def _unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _programs(report: Report) -> list[str]:
    """Return the programs, if every target ran all of them; else each ran the one it prefers."""
    ran = [(row.target, row.program) for row in report.rows if row.program]
    targets = _unique(target for target, _ in ran)
    programs = [program for program in _unique(program for _, program in ran) if program]
    return programs if len(set(ran)) == len(targets) * len(programs) else []
