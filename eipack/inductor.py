"""The base of backends that compile exported programs with AOTInductor, for one kind of machine.

A compiled program in a package reads the package's own weights, mapped, so that they lie there
once. A portable program that is compiled while it is loaded has its weights packed for this
machine (`freezing`), and is kept in this user's cache.
"""

from __future__ import annotations

import ctypes
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import torch
from attrs import evolve, frozen
from torch import Tensor

from eipack.aotinductor import LIBRARY, WANTED, build, open_library
from eipack.backend import LoadOptions, Program, ProgramReader, ProgramWriter, Runner
from eipack.cache import cached
from eipack.dtypes import dtype_name, torch_dtype
from eipack.errors import OptionRefused
from eipack.kinds import codec
from eipack.manifest import ProgramRecord
from eipack.pool import view_storage
from eipack.target import Target
from eipack.threads import usable_cores
from eipack.torch_backend import Call, TorchBackend, native_call

KIND: Final = "inductor"
_TENSORS: Final = "tensors.json"
_HOST: Final = torch.device("cpu")


@frozen
class _View:
    """A tensor that the library reads, as a strided view of the storage bound to `key`."""

    name: str
    key: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


@frozen(eq=False)
class Library:
    """A compiled program: native code, the tensors that it reads, and what it needs."""

    code: bytes
    tensors: Mapping[str, Tensor]
    needs: Mapping[str, str]


class InductorBackend(TorchBackend):
    """Compile exported programs and run what was compiled."""

    engine = "inductor"
    kinds: ClassVar[tuple[str, ...]] = (KIND, "exported")
    engine_options: ClassVar[Mapping[str, str]] = {
        "freezing": "pack the weights for this machine, in memory of the session's own (true)",
        "max_autotune": "time several kernels while compiling and keep the quickest (false)",
        "epilogue_fusion": "compute what follows a product of matrices along with it (true)",
    }

    def needs(self, target: Target) -> dict[str, str]:
        """Say what a library that is compiled for the target here needs."""
        return {
            "device": self.device,
            "platform": f"{platform.system()}-{platform.machine()}".lower(),
            "torch": str(torch.__version__),
        }

    def why_unusable(self, record: ProgramRecord, target: Target) -> str | None:
        """Say what a compiled program needs that is not here."""
        if record.kind != KIND:
            return None
        here = self.needs(target)
        for name, wanted in sorted(record.attributes.items()):
            has = here.get(name, "none")
            lacking = sorted({*wanted.split()} - {*has.split()})
            if lacking:
                found = "it is not here" if name == "isa" else f"here it is {has}"
                return f"was compiled for {name} {' '.join(lacking)}, and {found}"
        return None

    def compile(self, program: Program, target: Target) -> Program:
        """Compile an exported program; its weights stay in the package.

        Raises:
            UnsupportedModel: AOTInductor cannot compile it, or there is no C++ compiler.
        """
        exported = program.artifact
        device = self.torch_device(self.find(target).target)
        with _folder() as place:
            build(exported, program.signature, program.convention, {"device": str(device)}, place)
            code = (place / LIBRARY).read_bytes()
            library = Library(code, _wanted(exported, place), self.needs(target))
        return evolve(program, kind=KIND, artifact=library)

    def save(self, program: Program, writer: ProgramWriter) -> None:
        """Write the library, what it needs, and which of the package's weights it reads."""
        if program.kind != KIND:
            super().save(program, writer)
            return
        library: Library = program.artifact
        writer.member(LIBRARY, library.code)
        views = []
        keys: dict[int, str] = {}
        for name, tensor in library.tensors.items():
            place = tensor.untyped_storage().data_ptr()
            if place not in keys or not tensor.untyped_storage().nbytes():
                keys[place] = name
                writer.tensor(name, tensor)
            views.append(_view(name, keys[place], tensor))
        writer.member(_TENSORS, msgspec.json.encode(views))
        for need, value in library.needs.items():
            writer.attribute(need, value)

    def load(self, reader: ProgramReader, target: Target, options: LoadOptions) -> Runner:
        """Open a compiled program, or compile a portable one: once, and kept in the cache.

        Raises:
            OptionRefused: An option has a value that means nothing, or comes too late.
            UnsupportedModel: AOTInductor cannot compile it, or there is no C++ compiler.
        """
        self.find(target)
        device = self.torch_device(target)
        settings = _settings(options.engine, target, device, compiled=reader.kind == KIND)
        with self._place(reader, target, settings) as place:
            threads = options.threads or torch.get_num_threads()
            runner = open_library(place / LIBRARY, max(1, usable_cores() // threads), device)
            tensors = _bound(place, reader)
        given = _give(runner, tensors, device)
        call = _flat(runner, given)
        if reader.convention == "native":
            call = native_call(_nested(runner, call), reader.signature)
        return self.runner(call, reader, device, options)

    @contextmanager
    def _place(
        self, reader: ProgramReader, target: Target, settings: Mapping[str, Any]
    ) -> Iterator[Path]:
        """Give a folder with the library; it goes afterwards unless it is the cache's."""

        def make(place: Path) -> None:
            _make(reader, settings, place)

        if reader.kind == KIND or reader.digest is None:
            with _folder() as place:
                make(place)
                yield place
            return
        key = {"kind": KIND, "program": reader.digest, **settings, "needs": self.needs(target)}
        place, kept = cached(key, make)
        try:
            yield place
        finally:
            if not kept:
                shutil.rmtree(place, ignore_errors=True)


def _make(reader: ProgramReader, settings: Mapping[str, Any], place: Path) -> None:
    """Write the library of a program and the list of the tensors that it reads."""
    if reader.kind == KIND:
        (place / LIBRARY).write_bytes(reader.member(LIBRARY))
        (place / _TENSORS).write_bytes(reader.member(_TENSORS))
        return
    exported = codec(reader.kind).load(reader, _HOST)
    build(exported, reader.signature, reader.convention, settings, place)
    keys = {reader.storage(key).data_ptr(): key for key in reader.keys}
    views = [
        _view(name, keys[tensor.untyped_storage().data_ptr()], tensor)
        for name, tensor in _wanted(exported, place).items()
    ]
    (place / _TENSORS).write_bytes(msgspec.json.encode(views))


def _settings(
    asked: Mapping[str, Any], target: Target, device: torch.device, *, compiled: bool
) -> dict[str, Any]:
    """Return what to compile with: freezing too, unless it is said or the weights are apart."""
    for name, value in asked.items():
        if not isinstance(value, bool):
            raise OptionRefused(f"{target} takes true or false as {name}, not {value!r}")
    if asked and compiled:
        raise OptionRefused(
            f"the program is compiled already, and {target} takes {', '.join(asked)} while it "
            "compiles; name a portable one as well: program='exported'"
        )
    return {"device": str(device), "freezing": True, **asked}


def _wanted(exported: Any, place: Path) -> dict[str, Tensor]:
    """Return the tensors that a library reads from the package."""
    there = {**exported.state_dict, **exported.constants}
    names = msgspec.json.decode((place / WANTED).read_bytes(), type=list[str])
    return {name: there[name].detach() for name in names}


def _view(name: str, key: str, tensor: Tensor) -> _View:
    shape, strides = tuple(tensor.shape), tuple(tensor.stride())
    return _View(name, key, dtype_name(tensor.dtype), shape, strides, int(tensor.storage_offset()))


def _bound(place: Path, reader: ProgramReader) -> dict[str, Tensor]:
    views = msgspec.json.decode((place / _TENSORS).read_bytes(), type=list[_View])
    return {
        view.name: view_storage(
            reader.storage(view.key), torch_dtype(view.dtype), view.shape, view.strides, view.offset
        )
        for view in views
    }


def _give(runner: Any, tensors: Mapping[str, Tensor], device: torch.device) -> list[Tensor]:
    """Let a library read tensors; return those that must be kept as long as it runs.

    torch never lets go of what it is given (2.13), so on the host it gets tensors that own nothing.
    """
    names = runner.get_constant_names_to_original_fqns()
    wanted = {name: tensors[fqn] for name, fqn in names.items() if fqn in tensors}
    if not wanted:
        return []
    if device.type == "cpu":
        borrowed = {name: _borrowed(tensor) for name, tensor in wanted.items()}
        runner.update_constant_buffer(borrowed, False, True, True)
        return list(wanted.values())
    copied = {name: tensor.to(device) for name, tensor in wanted.items()}
    runner.update_constant_buffer(copied, False, True, False)
    return []


def _borrowed(tensor: Tensor) -> Tensor:
    """Return a tensor over the same memory, which does not keep it."""
    raw = tensor.untyped_storage()
    if not raw.nbytes():
        return tensor
    memory = (ctypes.c_uint8 * raw.nbytes()).from_address(raw.data_ptr())
    view = torch.frombuffer(memory, dtype=torch.uint8)
    place = int(tensor.storage_offset())
    return view_storage(view, tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()), place)


def _flat(runner: Any, tensors: list[Tensor]) -> Call:
    """Return a library as a callable, which keeps the tensors that it reads."""

    def run(*inputs: Tensor) -> Any:
        outputs = runner.run(list(inputs))
        return outputs[0] if len(outputs) == 1 else outputs

    run.tensors = tensors  # type: ignore[attr-defined] # as long as the callable is there
    return run


def _nested(runner: Any, call: Call) -> Callable[..., Any]:
    """Call a library as the model was called."""
    from torch.export._tree_utils import reorder_kwargs
    from torch.utils import _pytree as pytree

    takes, gives = (pytree.treespec_loads(text) for text in runner.get_call_spec())

    def run(*args: Any, **kwargs: Any) -> Any:
        leaves = pytree.tree_leaves((args, reorder_kwargs(kwargs, takes)))
        found = call(*(leaf for leaf in leaves if isinstance(leaf, Tensor)))
        flat = [found] if isinstance(found, Tensor) else list(found)
        return pytree.tree_unflatten(flat, gives)

    return run


@contextmanager
def _folder() -> Iterator[Path]:
    """Give a temporary folder, which no other user can read."""
    with tempfile.TemporaryDirectory(prefix="eipack-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
