"""The canonical safetensors file: aligned, without holes, in the order given.

The format is that of https://github.com/huggingface/safetensors: the header's length in
8 bytes, a JSON header that spaces may pad, then the tensors. It wants every byte to belong
to a tensor and aligns none, so gaps become entries of their own.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from eipack.archive.buffers import as_bytes
from eipack.errors import MalformedPackage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from eipack.archive.buffers import Buffer

PAD_PREFIX: Final = "__pad__."
_ALIGNMENT: Final = 64
# What the library refuses to read.
_MAX_HEADER: Final = 100_000_000
_BITS: Final = (
    {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "C64": 64}
    | dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8)
    | dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8)
    | dict.fromkeys(("I16", "U16", "F16", "BF16"), 16)
    | dict.fromkeys(("I32", "U32", "F32"), 32)
    | dict.fromkeys(("I64", "U64", "F64"), 64)
)


@frozen
class Slot:
    """A tensor's place in a file; `dtype` is spelled as in safetensors ("F32", "BF16")."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@frozen
class TensorFile:
    """A file of tensors, by its header and where each tensor starts.

    Offsets count from the start of the file and are multiples of 64; `gaps` are the
    (offset, size) of the zeros between tensors.
    """

    slots: tuple[Slot, ...]
    offsets: tuple[int, ...]
    gaps: tuple[tuple[int, int], ...]
    header: bytes = field(repr=False)
    total_size: int

    def chunks(self, tensors: Iterable[Buffer]) -> Iterator[Buffer]:
        """Give the file's bytes in order, taking one tensor at a time.

        Raises:
            MalformedPackage: a tensor has another size than its slot.
            ValueError: there are more or fewer tensors than slots.

        """
        yield self.header
        position = len(self.header)
        for slot, offset, tensor in zip(self.slots, self.offsets, tensors, strict=True):
            view = as_bytes(tensor)
            if len(view) != slot.nbytes:
                raise MalformedPackage(f"{slot.name!r} has {len(view)} bytes, not {slot.nbytes}")
            yield bytes(offset - position)
            yield view
            position = offset + slot.nbytes


def lay_out(slots: Iterable[Slot]) -> TensorFile:
    """Lay tensors out in the given order, each at a multiple of 64 bytes.

    Raises:
        MalformedPackage: a name is taken or reserved, or size, shape and dtype disagree.

    """
    slots = tuple(slots)
    entries: dict[str, object] = {}
    starts: list[int] = []
    gaps: list[tuple[int, int]] = []
    end = 0
    for slot in slots:
        _check(slot, entries)
        if gap := -end % _ALIGNMENT:
            entries[f"{PAD_PREFIX}{len(gaps)}"] = _entry("U8", (gap,), end, gap)
            gaps.append((end, gap))
        starts.append(end + gap)
        entries[slot.name] = _entry(slot.dtype, slot.shape, end + gap, slot.nbytes)
        end += gap + slot.nbytes
    header = _header(entries)
    return TensorFile(
        slots=slots,
        offsets=tuple(len(header) + start for start in starts),
        gaps=tuple((len(header) + start, size) for start, size in gaps),
        header=header,
        total_size=len(header) + end,
    )


def _check(slot: Slot, taken: dict[str, object]) -> None:
    if slot.name.startswith(PAD_PREFIX) or slot.name == "__metadata__":
        raise MalformedPackage(f"the tensor name {slot.name!r} is reserved; rename it")
    if slot.name in taken:
        raise MalformedPackage(f"two tensors have the same name {slot.name!r}")
    if any("\ud800" <= char <= "\udfff" for char in slot.name):
        raise MalformedPackage(f"the tensor name {slot.name!r} is not valid Unicode")
    if slot.dtype not in _BITS:
        raise MalformedPackage(f"{slot.name!r} has the dtype {slot.dtype!r}, not in safetensors")
    if min(slot.shape, default=0) < 0:
        raise MalformedPackage(f"{slot.name!r} has a negative size in its shape {slot.shape}")
    if math.prod(slot.shape) * _BITS[slot.dtype] != slot.nbytes * 8:
        of_shape = f"{slot.dtype} of shape {slot.shape}"
        raise MalformedPackage(f"{slot.name!r} is {of_shape}, which has not {slot.nbytes} bytes")


def _entry(dtype: str, shape: tuple[int, ...], start: int, size: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": (start, start + size)}


def _header(entries: dict[str, object]) -> bytes:
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    if len(text) > _MAX_HEADER:
        raise MalformedPackage(f"{len(entries)} tensors need a header of {len(text)} bytes")
    return len(text).to_bytes(8, "little") + text
