"""The contract of a backend: four verbs, and the devices that are there.

A plugin subclasses `Backend`, names a device and engine, and registers the class
as an entry point in the group `eipack.backends`, named `device` or
`device.engine`. Everything else (capture, signature checks, parity, packaging,
benchmarks) is the core's and works for every backend alike. Backends for a
device that torch knows start from `eipack.torch_backend.TorchBackend` instead.

Errors: `compile` and `save` raise nothing but `EipackError`s (`UnsupportedModel` for
what the device cannot do); whatever else `load` or a run raises, the core reports as
`ExecutionFailed`. `eipack.testing.BackendContract` tests all that this module says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from attrs import field, frozen

from eipack.errors import DeviceNotFound
from eipack.manifest import Convention, ProgramRecord
from eipack.signature import Signature
from eipack.target import Target

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.package import Package


Precision = Literal["float32", "bfloat16", "float16", "int8"]
"""What a float32 program may be computed in; nothing but float32 unless the caller asks."""


@frozen
class Device:
    """One device a backend sees; unhealthy ones say why in `detail`.

    `target` has the backend's own device and engine: it is what sessions say they run on.
    """

    target: Target
    name: str
    healthy: bool = True
    memory_bytes: int | None = None
    detail: str = ""


@frozen
class Program:
    """A captured or compiled model in one kind.

    `artifact` is a ScriptModule (`torchscript`), an ExportedProgram (`exported`), an
    onnx.ModelProto (`onnx`), or whatever a backend's `compile` makes of one.
    """

    kind: str
    artifact: Any
    signature: Signature
    method: str
    convention: Convention = "flat"
    target: Target | None = None  # set by the core, on what `compile` gave


class ProgramWriter(Protocol):
    """The members of a package that belong to one program, while it is written."""

    def member(self, name: str, data: bytes) -> None:
        """Add bytes under `programs/<id>/<name>`."""

    def tensor(self, key: str, tensor: Tensor) -> None:
        """Bind a key to a tensor's whole storage; bytes that the package has are stored once.

        Dtype, shape, strides and offset are the program's to note: a key gives bytes back.
        """

    def attribute(self, key: str, value: str) -> None:
        """Note something small for `load`."""


class ProgramReader(Protocol):
    """A verified program of an open package, while it is loaded."""

    @property
    def kind(self) -> str:
        """The program's kind."""

    @property
    def convention(self) -> Convention:
        """How the program is called."""

    @property
    def signature(self) -> Signature:
        """The package's signature."""

    @property
    def digest(self) -> str | None:
        """A name for the program and all its bytes, signature included, for caches.

        None while a program is proved that is in no package yet: what is compiled is not kept.
        """

    @property
    def attributes(self) -> Mapping[str, str]:
        """What `save` noted."""

    @property
    def keys(self) -> Iterable[str]:
        """The keys that `save` bound to tensors."""

    def member(self, name: str) -> bytes:
        """Return a member's verified bytes, from private memory."""

    def storage(self, key: str) -> Tensor:
        """Return the bytes bound to a key: uint8, 1-D, mapped; never write to it.

        `reader.storage(key).view(dtype).as_strided(shape, strides, offset)` is the tensor again.
        """

    def package(self) -> tuple[Package, str] | None:
        """Open the package once more and name the program in it, for who sends it elsewhere.

        The caller closes it. None while a program is proved that is in no package yet.
        """


class Runner(Protocol):
    """A loaded program: takes and gives flat tensors in signature order."""

    def __call__(self, *inputs: Tensor) -> Tensor | Sequence[Tensor]:
        """Run once; called from several threads at once.

        Inputs fit the signature and are only read; they may have any strides, but are contiguous
        for programs that torch.export captured, whose graphs hold for nothing else. Outputs
        belong to the caller, who may write to them: they share no memory with weights
        or with what other calls gave (with this call's inputs they may, as the model's own).

        Raises:
            SessionClosed: The runner is closed.
        """

    def close(self) -> None:
        """Release everything; called once, perhaps while calls run, which finish or are refused."""


@frozen
class LoadOptions:
    """What a caller may ask of `load`, beyond the target.

    `outputs_on` is `host` (outputs on the CPU) or `device` (left where they were made).
    `precision` is one of the backend's `precisions`, and `engine` has values for some of its
    `engine_options`. The others are for backends that name them in `options`: `threads` is how
    many threads a call may use, `deadline_ms` the longest that it may take, `retries` how often
    one that was lost may be sent again, even if it was run, and `failover` lets the next healthy
    device of the backend take over from one that was lost.
    """

    outputs_on: Literal["host", "device"] = "host"
    deadline_ms: float | None = None
    retries: int = 0
    failover: bool = False
    precision: Precision = "float32"
    threads: int | None = None
    engine: Mapping[str, Any] = field(factory=dict)


class Backend(ABC):
    """Serve one device and engine; instances are stateless and shared between threads."""

    device: ClassVar[str]
    engine: ClassVar[str | None] = None
    kinds: ClassVar[tuple[str, ...]]
    """Program kinds that `load` takes, the preferred first; one of them is a portable kind."""
    options: ClassVar[frozenset[str]] = frozenset()
    """Which of `threads`, `deadline_ms`, `retries` and `failover` it offers; `load` refuses the
    others."""
    precisions: ClassVar[tuple[Precision, ...]] = ("float32",)
    """What `load` can compute float32 programs in; float32 means float32 all the way."""
    engine_options: ClassVar[Mapping[str, str]] = {}
    """The engine's own options that `load` takes by name, and what each is for."""

    @abstractmethod
    def devices(self) -> Sequence[Device]:
        """List the devices that are there, healthy or not; never raise for an absent one."""

    def kinds_at(self, target: Target) -> tuple[str, ...]:
        """Return the kinds of `kinds` that a target takes, the preferred first; by default all.

        For backends whose devices differ; a target without an ordinal stands for any of them.
        """
        return self.kinds

    def why_unusable(self, record: ProgramRecord, target: Target) -> str | None:
        """Say why a program of one of `kinds` cannot run here, before anything of it is loaded.

        For programs that `compile` made for other processors or versions: `record.attributes`
        has what `save` noted of them. None, the default, where nothing is in the way.
        """
        return None

    def compile(self, program: Program, target: Target) -> Program:
        """Turn a captured program into the one this device runs; by default keep it.

        The program is of a portable kind in `kinds` and goes into the package too: it is
        never changed.

        Raises:
            UnsupportedModel: The device cannot run it.
        """
        return program

    def save(self, program: Program, writer: ProgramWriter) -> None:
        """Write a program that `compile` gave; by default as its portable kind is written."""
        from eipack.kinds import codec

        codec(program.kind).save(program, writer)

    @abstractmethod
    def load(self, reader: ProgramReader, target: Target, options: LoadOptions) -> Runner:
        """Bring a program onto the target's device, and onto no other.

        `eipack.kinds.codec(reader.kind).load(reader, device)` reads a portable kind.

        Raises:
            DeviceNotFound: The target's ordinal is not there; `find` says so.
        """

    def context(self, target: Target) -> AbstractContextManager[Any]:
        """Return the context that every run takes place in."""
        return nullcontext()

    def find(self, target: Target) -> Device:
        """Return the healthy device that a target names, the first one where it names none.

        Raises:
            DeviceNotFound: There is none; the message says what there is.
        """
        there = list(self.devices())
        wanted = [d for d in there if target.ordinal is None or d.target.ordinal == target.ordinal]
        healthy = [device for device in wanted if device.healthy]
        if healthy:
            return healthy[0]
        if wanted:
            reason = wanted[0].detail or "it is not healthy"
        elif there:
            reason = f"there are {', '.join(str(device.target) for device in there)}"
        else:
            reason = f"no {target.device} device is visible here"
        raise DeviceNotFound(f"{target}: no such device; {reason}", target=str(target))
