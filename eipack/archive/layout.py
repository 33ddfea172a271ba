"""The canonical zip: every byte that is not content follows from names, sizes and CRCs.

The structures are those of PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3.
"""

from __future__ import annotations

import re
from functools import cached_property
from itertools import pairwise
from struct import Struct
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from eipack.errors import MalformedPackage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ALIGNMENT: Final = 64
# A page, so that the weights can be mapped (and registered with a device) on their own.
TENSOR_ALIGNMENT: Final = 4096
MAX_MEMBERS: Final = 100_000
MAX_DIRECTORY: Final = 64 << 20
MAX_NAME: Final = 512

LOCAL: Final = Struct("<4s5H3L2H")
CENTRAL: Final = Struct("<4s6H3L5H2L")
END: Final = Struct("<4s4H2LH")
END64: Final = Struct("<4sQ2H2L4Q")
LOCATOR: Final = Struct("<4sLQL")
LOCAL_MAGIC: Final = b"PK\x03\x04"
CENTRAL_MAGIC: Final = b"PK\x01\x02"
END_MAGIC: Final = b"PK\x05\x06"
END64_MAGIC: Final = b"PK\x06\x06"
LOCATOR_MAGIC: Final = b"PK\x06\x07"

FULL16: Final = 0xFFFF
FULL32: Final = 0xFFFFFFFF
ZIP64_ID: Final = 0x0001
_PADDING_ID: Final = 0x5045  # "EP"
_EXTRA: Final = Struct("<2H")

_DATE: Final = 0x0021  # 1980-01-01, the first that a zip can hold
_MADE_BY: Final = 3 << 8 | 45  # Unix, by 4.5 of the specification
_PLAIN: Final = 10
_ZIP64: Final = 45
MODE: Final = 0o100644

_NAME = re.compile(r"[A-Za-z0-9_.@+=-]+(?:/[A-Za-z0-9_.@+=-]+)*")


@frozen
class Member:
    """A file in the package, by all that the layout depends on."""

    name: str
    size: int
    crc32: int


@frozen
class Placed:
    """A member and where its header and its bytes start in the file."""

    member: Member
    header_offset: int
    data_offset: int

    @property
    def end(self) -> int:
        """Give the offset just after the member's last byte."""
        return self.data_offset + self.member.size


@frozen(slots=False)
class Layout:
    """The file's bytes around its members."""

    placed: tuple[Placed, ...]
    directory_offset: int = field(repr=False)

    def local_header(self, index: int) -> bytes:
        """Build all that lies between the previous member's bytes and this one's."""
        placed = self.placed[index]
        member = placed.member
        big = member.size >= FULL32
        size = min(member.size, FULL32)
        name = member.name.encode()
        extra = _EXTRA.pack(ZIP64_ID, 16) + member.size.to_bytes(8, "little") * 2 if big else b""
        start = placed.header_offset + LOCAL.size + len(name) + len(extra) + _EXTRA.size
        padding = placed.data_offset - start
        extra += _EXTRA.pack(_PADDING_ID, padding) + bytes(padding)
        fixed = (_needed(placed), 0, 0, 0, _DATE, member.crc32, size, size)
        return LOCAL.pack(LOCAL_MAGIC, *fixed, len(name), len(extra)) + name + extra

    def tail(self) -> bytes:
        """Build the central directory and the end records."""
        directory = b"".join(map(central_entry, self.placed))
        return directory + self._end(len(directory))

    @cached_property
    def total_size(self) -> int:
        """Count the bytes of the whole file."""
        return self.directory_offset + len(self.tail())

    def _end(self, size: int) -> bytes:
        count, offset = len(self.placed), self.directory_offset
        records = b""
        if count >= FULL16 or size >= FULL32 or offset >= FULL32:
            numbers = (count, count, size, offset)
            records = END64.pack(END64_MAGIC, END64.size - 12, _MADE_BY, _ZIP64, 0, 0, *numbers)
            records += LOCATOR.pack(LOCATOR_MAGIC, 0, offset + size, 1)
        short = min(count, FULL16)
        ends = (min(size, FULL32), min(offset, FULL32))
        return records + END.pack(END_MAGIC, 0, 0, short, short, *ends, 0)


def place(members: Iterable[Member]) -> Layout:
    """Lay members out in the given order.

    Raises:
        MalformedPackage: a name, a size or their number is not allowed.

    """
    members = tuple(members)
    check_names([member.name for member in members])
    placed, offset = [], 0
    for member in members:
        if not (0 <= member.size < 1 << 63 and 0 <= member.crc32 <= FULL32):
            raise MalformedPackage(f"the size or CRC of {member.name!r} is out of range")
        placed.append(Placed(member, offset, _data_offset(member, offset)))
        offset = placed[-1].end
    return Layout(tuple(placed), offset)


def check_names(names: Sequence[str]) -> None:
    """Hold names to what every file system and every zip reader takes alike.

    Raises:
        MalformedPackage: a name is not allowed, or clashes with another.

    """
    if len(names) > MAX_MEMBERS:
        raise MalformedPackage(f"{len(names)} members are more than the {MAX_MEMBERS} allowed")
    seen: dict[str, str] = {}
    for name in names:
        if problem := _name_problem(name):
            raise MalformedPackage(f"the member name {name!r} {problem}")
        if (other := seen.get(name.lower())) is None:
            seen[name.lower()] = name
        elif other == name:
            raise MalformedPackage(f"two members have the same name {name!r}")
        else:
            raise MalformedPackage(f"the members {other!r} and {name!r} differ in case alone")
    # With the slash sorted first, a folder's own name would stand right before what is in it.
    for file, inside in pairwise(sorted(folded.replace("/", "\0") for folded in seen)):
        if inside.startswith(file + "\0"):
            name, other = (seen[key.replace("\0", "/")] for key in (file, inside))
            raise MalformedPackage(f"{name!r} is a member and also the folder of {other!r}")


def central_entry(placed: Placed) -> bytes:
    """Build a member's entry in the central directory."""
    member, offset = placed.member, placed.header_offset
    size = min(member.size, FULL32)
    big = [member.size, member.size] if size == FULL32 else []
    big += [offset] if offset >= FULL32 else []
    extra = b"".join(number.to_bytes(8, "little") for number in big)
    extra = _EXTRA.pack(ZIP64_ID, len(extra)) + extra if extra else b""
    name = member.name.encode()
    fixed = (_needed(placed), 0, 0, 0, _DATE, member.crc32, size, size, len(name), len(extra))
    rest = (0, 0, 0, MODE << 16, min(offset, FULL32))
    return CENTRAL.pack(CENTRAL_MAGIC, _MADE_BY, *fixed, *rest) + name + extra


def _needed(placed: Placed) -> int:
    return _ZIP64 if max(placed.member.size, placed.header_offset) >= FULL32 else _PLAIN


def _data_offset(member: Member, header_offset: int) -> int:
    """Align the data, leaving room for a padding record that may be empty but is always there."""
    zip64 = _EXTRA.size + 16 if member.size >= FULL32 else 0
    start = header_offset + LOCAL.size + len(member.name) + zip64 + _EXTRA.size
    alignment = TENSOR_ALIGNMENT if member.name.endswith(".safetensors") else ALIGNMENT
    return start + -start % alignment


def _name_problem(name: str) -> str | None:
    parts = re.split(r"[/\\]", name)
    if name.startswith(("/", "\\")) or name[1:2] == ":":
        return "is absolute"
    if ".." in parts:
        return "leads out of the package"
    if name.endswith("/"):
        return "is that of a directory"
    if len(name) > MAX_NAME:
        return f"has more than {MAX_NAME} characters"
    if "." in parts or not _NAME.fullmatch(name):
        return "is not made of letters, digits and _.@+=- between single slashes"
    return None
