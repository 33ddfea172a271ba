"""Where a call of a ScriptModule runs: inside which contexts it is, and what it is attached to.

Contexts hold for the thread or task that entered them, as torch's own flag does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final
from weakref import WeakKeyDictionary

import torch.jit._fuser
from attrs import frozen
from torch.jit import ScriptModule

from eipack.errors import TargetSyntaxError, UnsupportedModel
from eipack.target import Target
from eipack_eia.compat.startup import require

_OPTION: Final = "target_device"


@frozen
class _Scope:
    """What the contexts around say: a target by name, and whether attached modules use theirs."""

    target: Target | None = None
    optimized: bool = False


_OUTSIDE: Final = _Scope()
_scope: ContextVar[_Scope] = ContextVar("scope", default=_OUTSIDE)
_attached: WeakKeyDictionary[ScriptModule, Target] = WeakKeyDictionary()


@contextmanager
def optimized_execution(
    should_optimize: bool,  # noqa: FBT001 - torch's own function takes it by position
    options: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Do as `torch.jit.optimized_execution`, and run ScriptModules where `options` says.

    `options` is `{"target_device": "eia:0"}`, or `cpu` for the client, whatever `should_optimize`
    is. Without options the target of the context around stays; in none, modules given to
    `attach_eia` run on their accelerators if `should_optimize` is true.

    Raises:
        TargetSyntaxError: The options name something else than a target device.
        DeviceNotFound: No accelerator is attached under the ordinal.
    """
    target = _scope.get().target if options is None else _named(options)
    if target is not None and target.device == "eia":
        require(target)
    with (
        _within(_Scope(target, bool(should_optimize))),
        torch.jit._fuser.optimized_execution(should_optimize),
    ):
        yield


def _named(options: Mapping[str, str]) -> Target:
    if not isinstance(options, Mapping) or set(options) != {_OPTION}:
        raise TargetSyntaxError(
            f"optimized_execution was given {options!r}; write {{{_OPTION!r}: 'eia:0'}}"
        )
    target = Target.parse(options[_OPTION])
    if target.device not in {"eia", "cpu"}:
        raise TargetSyntaxError(
            f"optimized_execution was given {_OPTION} {str(target)!r}; write eia:0, or cpu"
        )
    return target


@contextmanager
def _within(scope: _Scope) -> Iterator[None]:
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


def on_client() -> Any:
    """Return a context in which every call runs on the client."""
    return _within(_OUTSIDE)


def inside() -> bool:
    """Tell whether this is inside a context of `optimized_execution`."""
    return _scope.get() is not _OUTSIDE


def attach_eia(module: ScriptModule, device_ordinal: int) -> ScriptModule:
    """Let a module run on an accelerator within `optimized_execution(True)`, and return it.

    Raises:
        UnsupportedModel: It is no ScriptModule.
        DeviceNotFound: No accelerator is attached under the ordinal.
    """
    if not isinstance(module, ScriptModule):
        raise UnsupportedModel(
            f"attach_eia was given a {type(module).__name__}; pass what torch.jit.trace, "
            "torch.jit.script or torch.jit.load returns"
        )
    target = Target("eia", ordinal=device_ordinal)
    require(target)
    _attached[module] = target
    return module


def detach_all() -> None:
    """Forget every module that was given to `attach_eia`."""
    _attached.clear()


def accelerator_for(module: ScriptModule) -> Target | None:
    """Return the accelerator that a call of the module runs on now; None is the client."""
    scope = _scope.get()
    if scope is _OUTSIDE:
        return None
    target = scope.target
    if target is None and scope.optimized:
        target = _attached.get(module)
    return None if target is None or target.device != "eia" else target
