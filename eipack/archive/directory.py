"""Reading a zip's directory, and saying what is wrong with one that is not canonical.

Equality with the layout that names, sizes and CRCs call for is the proof; whatever is
checked before that only bounds the work or finds better words.
"""

from __future__ import annotations

import stat
from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from attrs import frozen

from eipack.archive.layout import (
    CENTRAL,
    CENTRAL_MAGIC,
    END,
    END64,
    END64_MAGIC,
    END_MAGIC,
    FULL16,
    FULL32,
    LOCAL,
    LOCAL_MAGIC,
    LOCATOR,
    LOCATOR_MAGIC,
    MAX_DIRECTORY,
    MAX_MEMBERS,
    MODE,
    Layout,
    Member,
    central_entry,
    place,
)
from eipack.errors import MalformedPackage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Read = Callable[[int, int], bytes]

_LOCAL_FIELDS: Final = {
    0: "signature",
    4: "version",
    6: "flags",
    8: "compression method",
    10: "date",
    14: "CRC",
    18: "sizes",
    26: "name",
    28: "padding",
    30: "name",
}
_CENTRAL_FIELDS: Final = {
    0: "signature",
    4: "version",
    8: "flags",
    10: "compression method",
    12: "date",
    16: "CRC",
    20: "sizes",
    28: "name",
    30: "extra field",
    32: "comment",
    34: "disk number",
    36: "attributes",
    42: "offset",
    46: "name",
}
_ENCRYPTED: Final = 1 << 0 | 1 << 6 | 1 << 13
_AES: Final = 99


@frozen
class _End:
    """What the end records say, and where they start."""

    start: int
    count: int
    directory_size: int
    directory_offset: int


@frozen
class _Entry:
    member: Member
    header_offset: int


def read_layout(read: Read, size: int) -> Layout:
    """Read the layout of a file and prove that it is the canonical one.

    Args:
        read: gives exactly so many bytes from an offset, `read(offset, length)`.
        size: the size of the file.

    Raises:
        MalformedPackage: the file is not a canonical zip; the message says in what.

    """
    end = _find_end(read, size)
    _check_end(end, read)
    entries = _parse(read(end.directory_offset, end.directory_size), end.count)
    _check_overlaps(entries, end.directory_offset)
    layout = place(entry.member for entry in entries)
    _check_offsets(entries, end, layout)
    for index, placed in enumerate(layout.placed):
        expected = layout.local_header(index)
        found = read(placed.header_offset, len(expected))
        if found != expected:
            raise MalformedPackage(_header_problem(placed.member.name, found, expected))
    found = read(end.directory_offset, size - end.directory_offset)
    if found != layout.tail():
        raise MalformedPackage(_tail_problem(layout, found))
    return layout


def _find_end(read: Read, size: int) -> _End:
    start = size - END.size
    if start < 0:
        raise MalformedPackage(_missing_end(read, size))
    magic, _, _, _, count, length, offset, comment = END.unpack(read(start, END.size))
    if magic != END_MAGIC or comment:
        raise MalformedPackage(_missing_end(read, size))
    if count != FULL16 and FULL32 not in {length, offset}:
        return _End(start, count, length, offset)
    start -= END64.size + LOCATOR.size
    records = read(start, END64.size + LOCATOR.size) if start >= 0 else b""
    if not records.startswith(END64_MAGIC) or records[END64.size :][:4] != LOCATOR_MAGIC:
        raise MalformedPackage("its ZIP64 end records are missing: it is truncated or damaged")
    return _End(start, *END64.unpack_from(records)[-3:])


def _missing_end(read: Read, size: int) -> str:
    """Say why there is no end record in the file's last bytes."""
    if size == 0:
        return "it is empty"
    start = max(0, size - END.size - FULL16)
    last = read(start, size - start)
    found = last.rfind(END_MAGIC, 0, max(0, len(last) - END.size + len(END_MAGIC)))
    if found >= 0:
        comment = END.unpack_from(last, found)[-1]
        rest = len(last) - found - END.size
        return "it has a zip comment" if comment == rest else f"{rest} bytes of data trail its end"
    if read(0, min(4, size)) == LOCAL_MAGIC[:size]:
        return "its end is missing: it is truncated, or other data trails it"
    return "it is not a zip file"


def _check_end(end: _End, read: Read) -> None:
    """Bound what the end records ask for, before anything of that size is read."""
    if end.count > MAX_MEMBERS:
        raise MalformedPackage(f"{end.count} members are more than the {MAX_MEMBERS} allowed")
    if end.directory_size > MAX_DIRECTORY:
        raise MalformedPackage(f"its central directory exceeds {MAX_DIRECTORY} bytes")
    excess = end.start - end.directory_size - end.directory_offset
    if excess < 0:
        raise MalformedPackage("its central directory does not fit: truncated, or lying sizes")
    if excess and read(end.directory_offset + excess, 4) in {CENTRAL_MAGIC, END_MAGIC}:
        raise MalformedPackage(f"{excess} bytes of other data are prepended to it")
    if excess:
        raise MalformedPackage(f"{excess} bytes of other data lie before its end record")


def _parse(directory: bytes, count: int) -> list[_Entry]:
    entries: list[_Entry] = []
    offset = 0
    while len(entries) < count:
        if len(directory) - offset < CENTRAL.size:
            raise MalformedPackage("its central directory has fewer members than it declares")
        fields = CENTRAL.unpack_from(directory, offset)
        *_, crc32, packed, size, name_size, extra_size, comment_size, _, _, _, header = fields
        start = offset + CENTRAL.size
        extra_start = start + name_size
        offset = extra_start + extra_size + comment_size
        if fields[0] != CENTRAL_MAGIC or offset > len(directory):
            raise MalformedPackage("an entry of its central directory is damaged")
        # Latin-1 takes any byte; what is not ASCII is refused with the other names.
        name = directory[start:extra_start].decode("latin-1")
        _check_entry(name, fields)
        extra = directory[extra_start : extra_start + extra_size]
        packed, size, header = _resolve(name, [packed, size, header], extra)
        if packed != size:
            raise MalformedPackage(f"the sizes of {name!r} lie: {packed} bytes for {size}")
        entries.append(_Entry(Member(name, size, crc32), header))
    if offset != len(directory):
        raise MalformedPackage("its central directory has more members than it declares")
    return entries


def _check_entry(name: str, fields: tuple[int, ...]) -> None:
    """Find words for what a zip may hold and a package may not."""
    flags, method, comment_size, attributes = (fields[index] for index in (3, 4, 12, 15))
    kind = stat.S_IFMT(attributes >> 16)
    problem = None
    if flags & _ENCRYPTED or method == _AES:
        problem = "is encrypted"
    elif method:
        problem = "is compressed"
    elif comment_size:
        problem = "has a comment"
    elif kind == stat.S_IFDIR or attributes & 0x10 or name.endswith("/"):
        problem = "is a directory"
    elif kind == stat.S_IFLNK:
        problem = "is a symbolic link"
    elif attributes != MODE << 16:
        problem = "has attributes other than those of a regular file with mode 0644"
    if problem:
        raise MalformedPackage(f"the member {name!r} {problem}")


def _resolve(name: str, numbers: list[int], extra: bytes) -> list[int]:
    """Fill in the numbers that stand in the ZIP64 record, sizes first, then the offset."""
    # The record holds both sizes or none, in the order uncompressed, compressed.
    large = [index for index in (1, 0, 2) if numbers[index] == FULL32]
    if len(extra) != (4 + 8 * len(large) if large else 0):
        raise MalformedPackage(f"the extra field of {name!r} is not canonical")
    for position, index in enumerate(large):
        start = 4 + 8 * position
        numbers[index] = int.from_bytes(extra[start : start + 8], "little")
    return numbers


def _check_overlaps(entries: Sequence[_Entry], directory_offset: int) -> None:
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    ends = [_least_end(entry) for entry in ordered]
    for (entry, following), end in zip(pairwise(ordered), ends, strict=False):
        if end > following.header_offset:
            names = f"{entry.member.name!r} and {following.member.name!r}"
            raise MalformedPackage(f"the members {names} overlap, or their sizes lie")
    if ends and ends[-1] > directory_offset:
        name = ordered[-1].member.name
        raise MalformedPackage(f"the size of {name!r} lies: it would reach beyond the members")


def _least_end(entry: _Entry) -> int:
    return entry.header_offset + LOCAL.size + len(entry.member.name) + entry.member.size


def _check_offsets(entries: Sequence[_Entry], end: _End, layout: Layout) -> None:
    if entries and (extra := min(entry.header_offset for entry in entries)):
        raise MalformedPackage(f"{extra} bytes of other data are prepended to its members")
    for entry, placed in zip(entries, layout.placed, strict=True):
        if entry.header_offset != placed.header_offset:
            where = f"at {entry.header_offset}, not at {placed.header_offset}"
            raise MalformedPackage(f"the header of {entry.member.name!r} lies {where}")
    if end.directory_offset != layout.directory_offset:
        where = f"at {end.directory_offset}, not at {layout.directory_offset}"
        raise MalformedPackage(f"its central directory lies {where}")


def _header_problem(name: str, found: bytes, expected: bytes) -> str:
    return f"the {_field(_LOCAL_FIELDS, found, expected)} of {name!r} is not canonical"


def _tail_problem(layout: Layout, found: bytes) -> str:
    start = 0
    for placed in layout.placed:
        expected = central_entry(placed)
        entry = found[start : start + len(expected)]
        if entry != expected:
            field = _field(_CENTRAL_FIELDS, entry, expected)
            return f"the {field} of {placed.member.name!r} in its directory is not canonical"
        start += len(expected)
    return "its end record is not canonical"


def _field(fields: dict[int, str], found: bytes, expected: bytes) -> str:
    """Name the first field that differs."""
    first = next(index for index, byte in enumerate(found) if byte != expected[index])
    starts = list(fields)
    name_size = int.from_bytes(expected[26:28], "little")
    if fields is _LOCAL_FIELDS and first >= LOCAL.size + name_size:
        return "padding"
    return fields[starts[bisect_right(starts, first) - 1]]
