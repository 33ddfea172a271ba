"""The weights of a package while it is made: every run of bytes once.

Storages (not tensors) are pooled, by content: ties, views and the constants
that several programs share become one entry without anybody asking for it.
Programs and staging see storages as uint8 tensors; the functions below go both ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from typing import TYPE_CHECKING, Any

from eipack.archive import tensor_digest
from eipack.dtypes import dtype_name, safetensors_dtype
from eipack.errors import UnsupportedModel
from eipack.manifest import Entry, TensorRecord

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Pool:
    """Collect storages; `entries` are in the order in which they came."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.tensors: list[TensorRecord] = []
        self.users: dict[str, set[str]] = {}
        self._bytes: list[Tensor] = []
        self._by_content: dict[tuple[str, int], str] = {}
        self._by_pointer: dict[tuple[int, int], str] = {}
        self._names: set[str] = set()

    def add_model(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Add a model's parameters and buffers under their own names."""
        for name, tensor in tensors:
            data = on_cpu(tensor)
            entry = self.add(data, name, user="model")
            self.tensors.append(
                TensorRecord(
                    name=name,
                    entry=entry,
                    dtype=dtype_name(data.dtype),
                    shape=tuple(data.shape),
                    strides=tuple(data.stride()),
                    offset=int(data.storage_offset()),
                )
            )

    def add(self, tensor: Tensor, hint: str, *, user: str) -> str:
        """Add the storage of a tensor, unless its bytes are here; return the entry's name."""
        raw = storage_bytes(tensor)
        pointer = (raw.data_ptr(), raw.numel())
        name = self._by_pointer.get(pointer) if raw.numel() else None
        if name is None:
            name = self._add_content(tensor, raw, hint)
            self._by_pointer[pointer] = name
        self.users.setdefault(name, set()).add(user)
        return name

    def keep(self, entry: Entry, raw: Tensor) -> None:
        """Take over an entry of a package that is there, with its verified bytes."""
        self.entries.append(entry)
        self._bytes.append(raw)
        self._names.add(entry.name)
        self._by_content[entry.digest, entry.nbytes] = entry.name
        if entry.nbytes:
            self._by_pointer[raw.data_ptr(), entry.nbytes] = entry.name

    def _add_content(self, tensor: Tensor, raw: Tensor, hint: str) -> str:
        digest, chunks = tensor_digest(buffer_of(raw))
        content = (digest, raw.numel())
        if content not in self._by_content:
            name = self._free_name(hint)
            dtype, shape = _as_stored(tensor, raw.numel())
            self.entries.append(Entry(name, dtype, shape, raw.numel(), digest, tuple(chunks)))
            self._bytes.append(raw)
            self._by_content[content] = name
        return self._by_content[content]

    def _free_name(self, hint: str) -> str:
        name, count = hint, 1
        while name in self._names:
            name, count = f"{hint}~{count}", count + 1
        self._names.add(name)
        return name

    def buffers(self) -> Iterator[tuple[Entry, Any]]:
        """Give each entry with a buffer over its bytes."""
        for entry, raw in zip(self.entries, self._bytes, strict=True):
            yield entry, buffer_of(raw)


def on_cpu(tensor: Tensor) -> Tensor:
    """Return the tensor's data on the CPU, strides kept, lazy conjugation and negation done.

    Raises:
        UnsupportedModel: It has no plain bytes (a meta or sparse tensor, a subclass).
    """
    import torch

    kind = type(tensor)
    if kind not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer):
        raise UnsupportedModel(f"a tensor of class {kind.__name__} cannot be packaged")
    if tensor.layout is not torch.strided or tensor.device.type == "meta":
        what = "meta" if tensor.device.type == "meta" else str(tensor.layout)
        raise UnsupportedModel(f"a {what} tensor cannot be packaged; it has no plain bytes")
    return tensor.detach().cpu().resolve_conj().resolve_neg()


def storage_bytes(tensor: Tensor) -> Tensor:
    """View the whole storage of a CPU tensor as uint8."""
    import torch

    storage = tensor.untyped_storage()
    view = torch.empty(0, dtype=torch.uint8, device="cpu")
    return view.set_(storage, 0, (storage.nbytes(),), (1,))


def buffer_of(raw: Tensor) -> Any:
    """Return a buffer over a uint8 tensor."""
    array: Any = raw.numpy()
    return memoryview(array)


def view_storage(
    raw: Tensor,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
) -> Tensor:
    """View the bytes of a storage as a strided tensor; the inverse of `storage_bytes`.

    Raises:
        UnsupportedModel: The view reaches beyond the bytes.
    """
    import torch

    reach = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1
    negative = offset < 0 or min(strides, default=0) < 0
    if prod(shape) and (negative or reach * dtype.itemsize > raw.numel()):
        raise UnsupportedModel(f"a view of {shape} reaches beyond its {raw.numel()} bytes")
    view = torch.empty(0, dtype=dtype, device="cpu")
    return view.set_(raw.untyped_storage(), offset, shape, strides)


def _as_stored(tensor: Tensor, nbytes: int) -> tuple[str, tuple[int, ...]]:
    """Choose the dtype and shape under which safetensors shows the bytes."""
    dtype = safetensors_dtype(dtype_name(tensor.dtype))
    if dtype is None or nbytes % tensor.element_size():
        return "U8", (nbytes,)
    whole = tensor.numel() * tensor.element_size() == nbytes
    if whole and tensor.is_contiguous():
        return dtype, tuple(tensor.shape)
    return dtype, (nbytes // tensor.element_size(),)
