"""What `+auto` stands for: the fastest way that the records of this machine have for a package."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from eipack.backend import Precision
from eipack.errors import EipackError
from eipack.measuring.environment import manifest_digest
from eipack.parity.precision import ALLOWED
from eipack.registry import AUTO, locate
from eipack.target import Target
from eipack.tuning.machine import this_machine
from eipack.tuning.record import Record, Row, kept

if TYPE_CHECKING:
    from eipack.package import Package

_warned: set[tuple[str, str]] = set()


class NotTuned(UserWarning):
    """Nothing that was measured on this machine says what is the fastest."""


@frozen
class Choice:
    """How a package is to be opened."""

    target: Target
    program: str | None = None
    precision: Precision = "float32"
    threads: int | None = None
    options: Mapping[str, Any] = field(factory=dict)


@frozen
class Wanted:
    """What a caller of `eipack.load` asks for beside `+auto`.

    `precision` is the lowest that may be chosen: one whose allowed loss is larger never is.
    """

    target: Target
    precision: Precision = "float32"
    threads: int | None = None
    program: str | None = None

    def admits(self, row: Row) -> bool:
        """Tell whether a row may be chosen."""
        place = Target.parse(row.target)
        loss, most = ALLOWED.get(row.precision, 0.0), ALLOWED.get(self.precision, 0.0)
        return (
            row.verdict == "measured"
            and loss <= most
            and self.target.device in (AUTO, place.device)
            and self.target.ordinal in (None, place.ordinal)
            and self.threads in (None, row.threads)
            and self.program in (None, row.program, row.kind)
        )


def default_of(target: Target) -> Target:
    """Return what a target that leaves the choice stands for where nothing is recorded."""
    return Target("cpu") if target.device == AUTO else evolve(target, engine=None)


def chosen(package: Package, wanted: Wanted) -> Choice:
    """Return the fastest way on record, else the default engine with a warning that says so.

    A reason is told once for each package and target.
    """
    digest = manifest_digest(package)
    records, reasons = _usable(digest, wanted.target)
    row = best(row for record in records for row in record.rows if wanted.admits(row))
    tried = {precision for record in records for precision in record.precisions}
    if row is None:
        _warn(package, digest, wanted, reasons, str(default_of(wanted.target)))
    elif wanted.precision not in {*tried, "float32"}:
        reason = f"{wanted.precision} was not tried"
        _warn(package, digest, wanted, [reason], f"{row.target} in {row.precision}")
    if row is None:
        return Choice(default_of(wanted.target), wanted.program, threads=wanted.threads)
    threads = wanted.threads if row.plain else row.threads
    return Choice(Target.parse(row.target), row.program, row.precision, threads, row.options)


def best(rows: Iterable[Row]) -> Row | None:
    """Return the fastest row; plain PyTorch, where it is one of them and not clearly slower."""
    ordered = sorted((row for row in rows if row.verdict == "measured"), key=lambda r: r.row_ms)
    plain = next((row for row in ordered if row.plain), None)
    if plain is None or plain.low_ms is None:
        return next(iter(ordered), None)
    return ordered[0] if ordered[0].row_ms < plain.low_ms / plain.batch else plain


def _usable(digest: str, target: Target) -> tuple[list[Record], list[str]]:
    """Return the records to choose from, the latest of each device, and why others are none."""
    found, reasons = list[Record](), list[str]()
    for record in kept(digest):
        if isinstance(record, str):
            reasons.append(record)
            continue
        why_not = _why_not(record, target)
        if why_not is None:
            found.append(record)
        elif why_not:
            reasons.append(f"the tuning record of {record.date} is {why_not}")
    found.sort(key=lambda record: record.date, reverse=True)
    whole = [record for record in found if record.target == str(target)][:1]
    if whole or target.device != AUTO:
        return whole or found[:1], reasons
    objective = found[0].objective if found else ""
    latest = {r.target: r for r in reversed(found) if r.objective == objective}
    return list(latest.values()), reasons


def _why_not(record: Record, target: Target) -> str | None:
    """Say why a record does not hold here; an empty text if it is none for the target at all."""
    places = [Target.parse(name) for name in record.machine.devices]
    if target.device != AUTO and not any(
        place.device == target.device and target.ordinal in (None, place.ordinal)
        for place in places
    ):
        return ""
    devices = tuple(sorted({place.device for place in places}))
    try:
        names = {str(place): locate(place)[0].find(place).name for place in places}
    except EipackError as error:
        return f"of a device that is not here ({error})"
    return record.machine.why_not(this_machine(devices, names))


def _warn(package: Package, digest: str, wanted: Wanted, reasons: Sequence[str], used: str) -> None:
    if (digest, str(wanted.target)) in _warned:
        return
    _warned.add((digest, str(wanted.target)))
    why = f" ({'; '.join(reasons)})" if reasons else ""
    place = AUTO if wanted.target.device == AUTO else str(default_of(wanted.target))
    lowest = "" if wanted.precision == "float32" else f" --precision {wanted.precision}"
    lowest = lowest and f" --precision float32{lowest}"
    warnings.warn(
        f"{package.name} is not tuned for {wanted.target}{why}; {used} is used. "
        f"Tune it: eipack tune {package.path} --target {place}{lowest}",
        NotTuned,
        stacklevel=5,
    )
