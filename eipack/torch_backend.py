"""The base of backends for devices that torch knows: a plugin adds what is special to its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from eipack.backend import Backend, LoadOptions, ProgramReader, Runner
from eipack.errors import SessionClosed
from eipack.interpreter import interpreted
from eipack.kinds import codec
from eipack.signature import Signature
from eipack.target import Target
from eipack.tree import flatten

Call = Callable[..., Any]

_AS_IT_IS: Final = nullcontext()


class TorchBackend(Backend):
    """Run TorchScript and exported programs through torch, on `torch_device(target)`."""

    kinds: ClassVar[tuple[str, ...]] = ("torchscript", "exported")
    options: ClassVar[frozenset[str]] = frozenset({"threads"})

    def torch_device(self, target: Target) -> torch.device:
        """Return torch's name of the target's device."""
        return torch.device(str(Target(self.device, ordinal=target.ordinal)))

    def context(self, target: Target) -> AbstractContextManager[Any]:
        """Return torch's inference mode, in which an autocast of the caller's does not count."""
        if not torch.is_autocast_enabled(self.device):
            return _AS_IT_IS if torch.is_inference_mode_enabled() else torch.inference_mode()
        stack = ExitStack()
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.autocast(self.device, enabled=False))
        return stack

    def load(self, reader: ProgramReader, target: Target, options: LoadOptions) -> Runner:
        """Bind the program to the package's weights on the device.

        Raises:
            DeviceNotFound: The target's ordinal is not there.
        """
        self.find(target)
        device = self.torch_device(target)
        return self.runner(torch_call(reader, device), reader, device, options)

    def runner(
        self, call: Call, reader: ProgramReader, device: torch.device, options: LoadOptions
    ) -> Runner:
        """Wrap a flat callable; devices with memory of their own override this."""
        return TorchRunner(call, weights_span(reader), options.threads)


class TorchRunner:
    """Hold a flat callable until it is closed.

    An output that lies in the package's own bytes (a parameter returned as it is) is
    copied, so that nobody can write to the weights through it. Without `threads` calls take as
    many as torch is set to.
    """

    def __init__(self, call: Call, weights: range = range(0), threads: int | None = None) -> None:
        self._call: Call | None = call if threads is None else with_threads(call, threads)
        self._low, self._high = weights.start, weights.stop
        self.threads = threads or torch.get_num_threads()

    def __call__(self, *inputs: Tensor) -> Tensor | Sequence[Tensor]:
        """Run the program."""
        call = self._call
        if call is None:
            raise SessionClosed("the session was closed during the call")
        result = call(*inputs)
        if type(result) is Tensor:
            return result.clone() if self._low <= result.data_ptr() < self._high else result
        return [t.clone() if self._low <= t.data_ptr() < self._high else t for t in result]

    def close(self) -> None:
        """Drop the program and with it the mapped weights."""
        self._call = None


def with_threads(call: Call, threads: int) -> Call:
    """Let a callable use so many of torch's threads; the caller's setting stays as it was."""

    def run(*inputs: Tensor) -> Any:
        before = torch.get_num_threads()
        if before == threads:
            return call(*inputs)
        torch.set_num_threads(threads)
        try:
            return call(*inputs)
        finally:
            torch.set_num_threads(before)

    return run


def weights_span(reader: ProgramReader) -> range:
    """Return the addresses between which a program's bound bytes lie."""
    storages = [reader.storage(key) for key in reader.keys]
    spans = [(raw.data_ptr(), raw.data_ptr() + raw.numel()) for raw in storages if raw.numel()]
    if not spans:
        return range(0)
    return range(min(low for low, _ in spans), max(high for _, high in spans))


def torch_call(reader: ProgramReader, device: torch.device) -> Call:
    """Load a program and return it as a callable from flat tensors to flat tensors."""
    call = _callable(reader.kind, codec(reader.kind).load(reader, device), device)
    return native_call(call, reader.signature) if reader.convention == "native" else call


def _callable(kind: str, artifact: Any, device: torch.device) -> Call:
    call: Call
    if kind == "exported":
        call = artifact.module(check_guards=False)
    elif device.type == "cpu":
        call = interpreted(artifact)
    else:  # elsewhere the profiling executor fuses, which is worth its first two calls
        call = artifact.forward
    return call


def native_call(call: Call, signature: Signature) -> Call:
    """Wrap a program that keeps the model's own call."""

    def run(*leaves: Tensor) -> list[Tensor]:
        args, kwargs = signature.nest(leaves)
        return flatten(signature.output_tree, call(*args, **kwargs))

    return run
