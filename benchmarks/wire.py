"""What a call to an accelerator costs beyond the model, beside a bare echo and beside its rivals.

Run by `make bench-wire`, which first makes the rivals' environment.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks import figure
from benchmarks.figure import Figure
from benchmarks.rivals import rounds, rows
from benchmarks.rivals.packages import packed
from benchmarks.rivals.payload import SIZES
from benchmarks.rivals.rows import Row
from eipack.processor import model_name

REPEAT = 5
_COMMAND = "make bench-wire"
_RESULT = Path(__file__).parent / "results" / "wire.md"
_MB = 1_000_000
_ECHO_AT_MOST = {"7 KB": 2.0, "602 KB": 1.7}
_GROWTH_AT_MOST_MB = 5.0
_AWAKE = "both sides wait awake for up to 200 µs between calls"
_BEYOND = ("eia", "eia tls", "tritonclient")
_PATHS = {
    "echo": ("bare TCP echo", "blocking sockets, which sleep between calls"),
    "echo awake": ("bare TCP echo, awake", f"{_AWAKE} and receive by 128 KB, as eipack's do"),
    "eia": ("`eia:0` session", f"beyond a `cpu` session of the package; token; {_AWAKE}"),
    "eia tls": ("`eia:0` session, TLS", f"as above, over TLS 1.3; token; {_AWAKE}"),
    "tritonclient": (
        "`tritonclient.http`, our server",
        "beyond a `cpu` session; the client is unmodified; only the server waits awake",
    ),
    "zeromq": ("ZeroMQ", "DEALER to ROUTER; no protocol, no model"),
    "uvicorn": ("uvicorn, lean client", "httptools and uvloop, OIP; no model; our client"),
    "grpc": ("gRPC", "OIP stubs, synchronous server; no model"),
    "triton": ("Triton, `tritonclient.http`", "Python backend that takes the first 1000 numbers"),
    "triton lean": ("Triton, lean client", "as above; our client"),
}


def main() -> None:
    """Measure all paths, print them, and write them to `benchmarks/results/wire.md`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wire", description=main.__doc__)
    parser.add_argument("--repeat", type=int, default=REPEAT, help="rounds of fresh processes")
    parser.add_argument("--json", action="store_true", help="print JSON, samples included")
    parser.add_argument("--no-growth", action="store_true", help="leave the 100,000 calls out")
    options = parser.parse_args()
    table, figures = measure_all(options.repeat, with_growth=not options.no_growth)
    if options.json:
        document = {"paths": rows.as_json(table), "figures": figure.as_json(figures)}
        print(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        print(rows.as_text(table, table[0]), figure.as_text(figures), sep="\n\n")
    if not options.no_growth:
        _write(table, figures, options.repeat)


def measure(repeat: int = REPEAT) -> list[Figure]:
    """Measure what is promised."""
    return measure_all(repeat)[1]


def measure_all(repeat: int, *, with_growth: bool = True) -> tuple[list[Row], list[Figure]]:
    """Measure what is promised, and every path beside it, the bare echo first."""
    packages = {size: packed(size) for size in SIZES}
    found = rounds.Found()
    for number in range(repeat):
        print(f"round {number + 1} of {repeat}", file=sys.stderr)
        rounds.run(packages, found)
    table = {path: _row(path, found) for path in _PATHS}
    figures = [*_against_echo(table, found), *_against_triton(table)]
    if with_growth:
        for size, package in packages.items():
            print(f"growth over {rounds.GROWTH_CALLS} calls, {size}", file=sys.stderr)
            figures += _growth(size, *rounds.growth(size, package))
    return list(table.values()), figures


def _row(path: str, found: rounds.Found) -> Row:
    title, detail = _PATHS[path]
    server = path.removesuffix(" lean")
    if server in found.missing:
        return Row(title, {}, detail, found.missing[server])
    samples = {size: tuple(times) for size, times in found.p50_us[path].items()}
    if path in _BEYOND:
        local = found.p50_us["local"]
        samples = {
            size: tuple(there - here for there, here in zip(times, local[size], strict=True))
            for size, times in samples.items()
        }
    return Row(title, samples, detail)


def _against_echo(table: dict[str, Row], found: rounds.Found) -> list[Figure]:
    eia, echo, awake = table["eia"], table["echo"], table["echo awake"]
    return [
        _ratio(
            f"`eia` overhead against a bare TCP echo, {size}",
            at_most,
            eia,
            echo,
            size,
            f"; {eia.p50(size) / awake.p50(size):.2f}x of an echo that waits awake as well; "
            f"{_split(found, size)}",
        )
        for size, at_most in _ECHO_AT_MOST.items()
    ]


def _split(found: rounds.Found, size: str) -> str:
    """Say where a session's round trip goes; the local session is what computing takes here."""
    parts = ", ".join(
        f"{part} {median(found.p50_us[part][size]):.1f}"
        for part in ("serialise", "network", "queue", "compute")
    )
    return f"of the round trip {parts} µs, where a `cpu` session takes {_local(found, size):.1f} µs"


def _local(found: rounds.Found, size: str) -> float:
    return median(found.p50_us["local"][size])


def _against_triton(table: dict[str, Row]) -> list[Figure]:
    return [
        _ratio(f"`eia` overhead against {rival.title}, {size}", at_most, table["eia"], rival, size)
        for rival, at_most in ((table["triton"], 1 / 8), (table["triton lean"], 1 / 4))
        for size in SIZES
        if rival.missing is None
    ]


def _ratio(what: str, asked: float, ours: Row, theirs: Row, size: str, more: str = "") -> Figure:
    pairs = zip(ours.samples[size], theirs.samples[size], strict=True)
    return Figure(
        what=what,
        asked=asked,
        measured=ours.p50(size) / theirs.p50(size),
        unit="x",
        detail=f"{ours.p50(size):.1f} µs against {theirs.p50(size):.1f} µs{more}",
        command=_COMMAND,
        samples=tuple(our / their for our, their in pairs),
    )


def _growth(size: str, client: float, server: float) -> list[Figure]:
    detail = f"unshared memory after {rounds.WARM_UP_CALLS} calls to warm up"
    return [
        Figure(
            what=f"growth of the {side}'s memory over {rounds.GROWTH_CALLS} calls, {size}",
            asked=_GROWTH_AT_MOST_MB,
            measured=grown / _MB,
            unit="MB",
            detail=detail,
            command=_COMMAND,
            samples=(grown / _MB,),
        )
        for side, grown in (("client", client), ("server", server))
    ]


def _write(table: Sequence[Row], figures: Sequence[Figure], repeat: int) -> None:
    about = (
        f"{model_name()}, {len(os.sched_getaffinity(0))} cores, "
        f"Python {platform.python_version()}, torch {version('torch')}, "
        f"{datetime.now(UTC).date()}. "
        "Loopback, one client, 4 KB out; "
        f"client and servers on cores of their own. Medians over {repeat} rounds of fresh "
        "processes, in brackets the lowest and the highest; within a round the paths take turns. "
        "The first table is what each path took, the second what is promised."
    )
    tables = rows.as_markdown(table, table[0]), figure.as_markdown(figures)
    text = "\n\n".join(("# The wire", about, *tables, f"Measured by `{_COMMAND}`."))
    _RESULT.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
