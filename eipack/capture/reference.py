"""The model as the reference: what every program is captured from and compared with."""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from eipack.capture.examples import Examples, distinct
from eipack.capture.quiet import quiet
from eipack.errors import CaptureFailed, EipackError, UnsupportedModel
from eipack.tree import Tree, describe

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Origin = Literal["eager", "torchscript", "exported"]


@frozen
class Outputs:
    """What a call gave: nesting, tensors, and a dotted path for each."""

    tree: Tree
    leaves: tuple[Tensor, ...]
    names: tuple[str, ...]


@frozen(eq=False)
class Reference:
    """A model that can be called with flat tensors.

    `origin` is `eager` for a module of Python code; a ScriptModule or an
    ExportedProgram is its own reference. `artifact` is the latter, else the module.
    `written` are the positions of inputs that the model writes to.
    """

    module: nn.Module
    origin: Origin
    artifact: Any
    examples: Examples
    written: frozenset[int] = frozenset()

    def __call__(self, leaves: Sequence[Tensor]) -> Outputs:
        """Run the model on copies of the tensors, without gradients; the outputs are copies too.

        Raises:
            CaptureFailed: The model itself fails.
            UnsupportedModel: It returns something that is no tensor, or no tensor at all.
        """
        outputs = outputs_of(self.call([leaf.clone() for leaf in leaves]))
        return evolve(outputs, leaves=tuple(leaf.detach().clone() for leaf in outputs.leaves))

    def call(self, leaves: Sequence[Tensor]) -> Any:
        """Run the model on the tensors themselves, and return what it returns.

        Raises:
            CaptureFailed: The model itself fails.
        """
        args, kwargs = self.examples.nest(leaves)
        try:
            with torch.no_grad():
                return self.module(*args, **kwargs)
        except Exception as error:
            shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
            raise CaptureFailed(
                f"the model fails on inputs of shape {shapes}: {first_line(error)}"
            ) from error


def outputs_of(value: Any) -> Outputs:
    """Describe what a model returned.

    Raises:
        UnsupportedModel: It holds something that is no tensor, or no tensor at all.
    """
    try:
        tree, leaves, paths = describe(value, constants=False)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"the model's output: {error}") from error
    if not leaves:
        raise UnsupportedModel("the model returns no tensor")
    names = distinct(_output_name(path) for path in paths)
    for name, leaf in zip(names, leaves, strict=True):
        if leaf.layout is not torch.strided or leaf.is_quantized:
            raise UnsupportedModel(
                f"output {name!r} is a sparse or quantised tensor; make it dense"
            )
    return Outputs(tree, tuple(leaves), names)


def _output_name(path: str) -> str:
    if not path:
        return "output"
    return f"output_{path}" if path[0].isdigit() else path


def first_line(error: BaseException) -> str:
    """Return the first line that says something of a foreign error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)


def flat_module(reference: Reference) -> nn.Module:
    """Return a shallow copy of the module whose forward takes and gives flat tensors.

    It shares every parameter and submodule with the original, so captured weights keep
    the model's own names; inputs are named as in the signature. Inputs that the model
    writes to are copied first: a program only reads its inputs.
    """
    examples = reference.examples
    original = reference.module

    def forward(*leaves: Tensor) -> Any:
        own = [leaf.clone() if i in reference.written else leaf for i, leaf in enumerate(leaves)]
        args, kwargs = examples.nest(own)
        tensors = outputs_of(original(*args, **kwargs)).leaves
        return tensors[0] if len(tensors) == 1 else tensors

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in examples.identifiers]
    forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    clone = object.__new__(type(original))  # copy.copy refuses parametrised modules
    vars(clone).update(vars(original))
    object.__setattr__(clone, "forward", forward)
    for name in _HOOKS:  # they run inside, where the original is called
        object.__setattr__(clone, name, OrderedDict())
    return clone


def on_host(module: nn.Module) -> nn.Module:
    """Return the module, or a copy of it on the CPU where it lies elsewhere.

    Raises:
        UnsupportedModel: It has meta tensors, or cannot be copied.
    """
    devices = {tensor.device.type for _, tensor in named_tensors(module)}
    if devices <= {"cpu"}:
        return module
    if "meta" in devices:
        raise UnsupportedModel("the model has meta tensors; load its weights first")
    try:
        return copy.deepcopy(module).cpu()
    except Exception as error:
        raise UnsupportedModel(
            f"the model lies on {', '.join(sorted(devices))} and cannot be copied to the CPU: "
            f"{first_line(error)}; call model.cpu() first"
        ) from error


def named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Give parameters and buffers, tied and non-persistent ones included, by name."""
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


@contextmanager
def translated(method: str, explain: Callable[[BaseException], str] = first_line) -> Iterator[None]:
    """Turn whatever torch raises while it captures into `CaptureFailed`."""
    try:
        yield
    except EipackError:
        raise
    except Exception as error:
        raise CaptureFailed(
            f"capture by {method} failed: {explain(error)}", method=method
        ) from error


def exported_reference(program: ExportedProgram) -> nn.Module:
    """Return the callable module of an ExportedProgram."""
    with quiet():
        return program.module()
