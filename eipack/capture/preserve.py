"""Leave the user's model and process as they were found."""

from __future__ import annotations

import copy
import random
import sys
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn

from eipack.capture.reference import Reference
from eipack.errors import UnsupportedModel

_CONTAINERS = (dict, OrderedDict, list, set, deque)
"""Classes of attributes whose contents are put back; exactly these, others may mean anything."""


@frozen(eq=False)
class _Kept:
    """A tensor with its value, and what else hangs on it."""

    name: str
    tensor: Tensor
    value: Tensor
    version: int
    requires_grad: bool
    grad: Tensor | None


class Snapshot:
    """What a module was: its tensors' values, and the attributes of each of its parts.

    Parameters, buffers, tensors in plain attributes and in lists and dicts are copied, so it
    costs as much memory as the model.
    """

    def __init__(self, module: nn.Module) -> None:
        _require_initialised(module)
        self._kept = [
            _Kept(
                name,
                tensor,
                tensor.detach().clone(),
                version(tensor),
                tensor.requires_grad,
                _grad(tensor),
            )
            for name, tensor in _tensors(module)
        ]
        self._parts = [
            (part, dict(vars(part)), _contents(vars(part)))
            for part in module.modules()
            if not isinstance(part, torch.jit.ScriptModule)
        ]

    def restore(self) -> list[str]:
        """Put everything back; name the tensors that were written to and the buffers replaced.

        A write that left the same values counts, even if it was before an earlier call of this.
        """
        changed = []
        for part, attributes, contents in self._parts:
            before = contents["_buffers"]
            changed += [key for key, value in part._buffers.items() if value is not before.get(key)]
            for key, content in contents.items():
                _refill(attributes[key], content)
            vars(part).clear()
            vars(part).update(attributes)
        for kept in self._kept:
            if not same_bytes(kept.tensor, kept.value):
                kept.tensor.data.copy_(kept.value)
                changed.append(kept.name)
            elif version(kept.tensor) != kept.version:
                changed.append(kept.name)
            if kept.tensor.requires_grad != kept.requires_grad:
                kept.tensor.requires_grad_(kept.requires_grad)
            if kept.grad is not _grad(kept.tensor):
                kept.tensor.grad = kept.grad
        return changed


def _require_initialised(module: nn.Module) -> None:
    for name, tensor in module.named_parameters():
        if torch.nn.parameter.is_lazy(tensor):
            raise UnsupportedModel(
                f"parameter {name!r} is not initialised yet; call the model once before exporting"
            )


def _grad(tensor: Tensor) -> Tensor | None:
    return tensor.grad if tensor.is_leaf else None


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    seen: set[int] = set()
    for name, part in module.named_modules():
        found: list[tuple[str, Any]] = [
            *part.named_parameters(recurse=False),
            *part.named_buffers(recurse=False),
        ]
        if not isinstance(part, torch.jit.ScriptModule):
            found += [pair for key, value in vars(part).items() for pair in _inside(key, value)]
        for key, tensor in found:
            if isinstance(tensor, Tensor) and id(tensor) not in seen:
                seen.add(id(tensor))
                yield f"{name}.{key}" if name else key, tensor


def _inside(key: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"{key}.{inner}", item) for inner, item in value.items()]
    if isinstance(value, list | tuple | deque):
        return [(f"{key}.{index}", item) for index, item in enumerate(value)]
    return [(key, value)]


def _contents(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: copy.copy(value) for key, value in attributes.items() if type(value) in _CONTAINERS
    }


def _refill(container: Any, content: Any) -> None:
    container.clear()
    (container.extend if isinstance(container, list | deque) else container.update)(content)


def version(tensor: Tensor) -> int:
    """Count the writes to a tensor; -1 where torch does not."""
    return -1 if tensor.is_inference() else tensor._version


def same_bytes(left: Tensor, right: Tensor) -> bool:
    """Tell whether two tensors hold the same bits; ones without plain bytes count as equal."""
    if left.is_quantized or left.layout is not torch.strided or left.device.type == "meta":
        return True
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    left, right = (t.detach().resolve_conj().resolve_neg().contiguous() for t in (left, right))
    return torch.equal(left.view(-1).view(torch.uint8), right.view(-1).view(torch.uint8))


class Surroundings:
    """The process state that a model may touch: random generators and torch's defaults."""

    def __init__(self) -> None:
        self._torch = torch.get_rng_state()
        self._python = random.getstate()
        numpy = sys.modules.get("numpy")
        self._numpy = None if numpy is None else numpy.random.get_state()
        self._dtype = torch.get_default_dtype()
        self._threads = torch.get_num_threads()
        self._grad = torch.is_grad_enabled()

    def randomness_used(self) -> bool:
        """Tell whether a global random generator has moved since."""
        now = Surroundings()
        return (
            not torch.equal(self._torch, now._torch)
            or self._python != now._python
            or str(self._numpy) != str(now._numpy)
        )

    def restore(self) -> None:
        """Put everything back."""
        torch.set_rng_state(self._torch)
        random.setstate(self._python)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)
        torch.set_default_dtype(self._dtype)
        torch.set_grad_enabled(self._grad)
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)


@contextmanager
def without_cache(reference: Reference) -> Iterator[None]:
    """Switch off the cache that models of transformers return, unless a call speaks of it."""
    parts = reference.module.modules() if reference.origin == "eager" else ()
    configs: dict[int, Any] = {
        id(part.config): part.config for part in parts if hasattr(part, "config")
    }
    cached = [one for one in configs.values() if getattr(one, "use_cache", None) is True]
    if "use_cache" in reference.examples.tree.keys:
        cached = []
    try:
        for config in cached:
            config.use_cache = False
        yield
    finally:
        for config in cached:
            config.use_cache = True


@contextmanager
def preserved(module: nn.Module) -> Iterator[Snapshot]:
    """Put module and surroundings back afterwards, whatever happened.

    Within, no autocast and no default device of the caller's is in force.

    Raises:
        UnsupportedModel: The module has parameters that are not initialised yet.
    """
    surroundings, snapshot = Surroundings(), Snapshot(module)
    try:
        with ExitStack() as stack:
            # only where needed: torch's own modules take other paths under a device context
            if torch.is_autocast_enabled("cpu"):
                stack.enter_context(torch.autocast("cpu", enabled=False))
            if torch.get_default_device().type != "cpu":
                stack.enter_context(torch.device("cpu"))
            yield snapshot
    finally:
        snapshot.restore()
        surroundings.restore()
