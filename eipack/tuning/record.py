"""What tuning found, and where it is kept for the loads that follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from attrs import evolve, field, frozen

from eipack.archive import digest_bytes
from eipack.backend import Precision
from eipack.cache import cache_folder
from eipack.errors import KeyUnavailable, TrustError
from eipack.trust.folder import (
    OURS_TO_WRITE,
    changing,
    check_folder,
    read_guarded,
    write_whole,
)
from eipack.tuning.machine import Machine

SCHEMA_VERSION: Final = 1
_REMEDY: Final = "name another folder in EIPACK_CACHE_DIR"

Objective = Literal["latency", "throughput"]
Verdict = Literal["measured", "slower", "wrong", "failed", "untried"]


@frozen
class Row:
    """One candidate, and what became of it.

    `measured` ones stayed to the end, `slower` ones were left out when that was clear; both have
    figures of `calls` calls of `batch` rows each: `p50_ms`, which the interval from
    `low_ms` to `high_ms` holds with a confidence of 99 %. The others have a `reason`. `plain` is
    the device's default engine as it runs without tuning. `threads` is what a call took, `checks`
    how many calls were held to the model's answers, `loss` the largest difference relative
    to the largest output where the precision is below float32. `samples_ns` are the last
    calls, 500 at most.
    """

    target: str
    program: str | None = None
    kind: str | None = None
    precision: Precision = "float32"
    threads: int | None = None
    options: dict[str, Any] = field(factory=dict)
    plain: bool = False
    verdict: Verdict = "untried"
    reason: str = ""
    batch: int = 1
    calls: int = 0
    p50_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    rows_per_s: float | None = None
    load_ms: float | None = None
    checks: int = 0
    loss: float | None = None
    samples_ns: tuple[int, ...] = ()

    @property
    def row_ms(self) -> float:
        """The median time for each row of the batch; infinite where there is none."""
        return float("inf") if self.p50_ms is None else self.p50_ms / self.batch


@frozen
class Record:
    """Every candidate of one run of tuning, the fastest first, and the winner.

    The winner is the fastest of all precisions that the run allowed. `digest` is
    that of the record itself with an empty one; `package_digest` is the manifest's.
    """

    schema_version: Literal[1]
    date: str
    package: str
    package_digest: str
    target: str
    objective: Objective
    precisions: tuple[Precision, ...]
    seconds: float
    machine: Machine
    winner: Row
    rows: tuple[Row, ...]
    digest: str = ""

    @property
    def plain(self) -> Row:
        """The default engine as it runs without tuning, at its fastest."""
        return min((row for row in self.rows if row.plain), key=lambda row: row.row_ms)

    def to_json(self) -> bytes:
        """Return the record as one line of JSON."""
        import msgspec

        return msgspec.json.encode(self) + b"\n"

    def sealed(self) -> Record:
        """Return the record with its digest."""
        bare = evolve(self, digest="")
        return evolve(bare, digest=digest_bytes(bare.to_json()))

    @classmethod
    def from_json(cls, data: bytes) -> Record:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is damaged, or no record.
        """
        import msgspec

        try:
            record = msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError(f"damaged ({error})") from error
        if record.sealed().digest != record.digest:
            raise ValueError("damaged (its digest is another one)")
        return record


def folder_of(package_digest: str) -> Path | None:
    """Name the folder of a package's records; None where there is no home."""
    compiled = cache_folder()
    name = package_digest.rpartition(":")[2][:32]
    return None if compiled is None else compiled.parent / "tuning" / name


def keep(record: Record) -> Path:
    """Write a record where later loads find it, in place of the last one of its kind.

    Raises:
        KeyUnavailable: It cannot be written; the message says why, and what to do.
    """
    folder = folder_of(record.package_digest)
    if folder is None:
        raise KeyUnavailable(f"there is no home to keep the record in; {_REMEDY}")
    path = folder / f"{record.target}-{record.objective}-{record.machine.mark}.json"
    with changing(folder, _REMEDY):
        write_whole(path, record.to_json())
    return path


def kept(package_digest: str) -> Iterator[Record | str]:
    """Give the records of a package, and for each that cannot be used the reason."""
    folder = folder_of(package_digest)
    if folder is None or not folder.is_dir():
        return
    try:
        check_folder(folder, OURS_TO_WRITE, _REMEDY)
        paths = sorted(folder.glob("*.json"))
    except (OSError, TrustError) as error:
        yield str(error)
        return
    for path in paths:
        try:
            found = Record.from_json(read_guarded(path, OURS_TO_WRITE, _REMEDY) or b"")
        except (ValueError, TrustError) as error:
            yield (
                f"the tuning record {path} is {error}" if type(error) is ValueError else str(error)
            )
            continue
        if found.package_digest == package_digest:
            yield found


def plain_json(record: Record) -> Mapping[str, Any]:
    """Return the record as JSON has it."""
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(record)
    return plain
