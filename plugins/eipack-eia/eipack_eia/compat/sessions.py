"""Packages and sessions made for modules on the fly: one a module and form of its inputs.

They go with the module. They are made anew when its weights, or its training mode, have changed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from threading import RLock
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, finalize

from torch import Tensor

import eipack
from eipack.target import Target
from eipack_eia.compat.context import on_client
from eipack_eia.compat.startup import announce

if TYPE_CHECKING:
    from torch.jit import ScriptModule

_MOST: Final = 8
"""Forms of input kept for a module: each has a package of the module's size in a temporary file."""

_held: WeakKeyDictionary[ScriptModule, _Held] = WeakKeyDictionary()
_exporting = RLock()


def _open(package: eipack.Package, target: Target) -> eipack.Session:
    return eipack.load(package, target=target)


def call(
    module: ScriptModule, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Run a module's forward on an accelerator.

    The first call with each form of input packages the module, which takes a while.

    Raises:
        EipackError: The module cannot be packaged, or the accelerator does not answer.
    """
    held = _held.get(module)
    if held is None:
        held = _hold(module)
    with on_client():  # what packs and proves a module, or serves it in this process, calls it
        return held.session(module, target, args, kwargs)(*args, **kwargs)


def _hold(module: ScriptModule) -> _Held:
    with _exporting:
        held = _held.get(module)
        if held is None:
            held = _held[module] = _Held(module)
        return held


def close_all() -> None:
    """Close every session; later calls open new ones."""
    for held in list(_held.values()):
        held.close()
    _held.clear()


class _Held:
    """The sessions of one module, the least recently used first; it does not hold the module."""

    def __init__(self, module: ScriptModule) -> None:
        self._tensors = (*module.parameters(), *module.buffers())
        self._counted = tuple(one for one in self._tensors if not one.is_inference())
        self._state: Any = None
        self._sessions: OrderedDict[Hashable, eipack.Session] = OrderedDict()
        self._lock = RLock()
        self._finalizer = finalize(module, self._close)

    def session(
        self, module: ScriptModule, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> eipack.Session:
        """Return the session for a call, opening it if there is none."""
        form = target, form_of(args), form_of(kwargs)
        state = self._now(module)
        with self._lock:
            if state != self._state:
                self._sessions.clear()
            found = self._sessions.get(form)
            if found is None:
                found = self._sessions[form] = _made(module, target, args, kwargs)
                self._state = state
            self._sessions.move_to_end(form)
            if len(self._sessions) > _MOST:
                # not closed here: a call in another thread may still use it, and closes it by going
                self._sessions.popitem(last=False)
            return found

    def _now(self, module: ScriptModule) -> Any:
        """Return what changes when a weight is written to or moved, or the mode is set."""
        mode = getattr(module, "training", False)  # frozen modules have none
        places = [tensor.data_ptr() for tensor in self._tensors]
        return mode, places, [tensor._version for tensor in self._counted]

    def close(self) -> None:
        """Close the sessions now, not when the module goes."""
        self._finalizer()

    def _close(self) -> None:
        while self._sessions:
            _, session = self._sessions.popitem()
            session.close()
            session.package.close()


def _made(
    module: ScriptModule, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> eipack.Session:
    announce(target)
    # an export sets and restores state of the process, so that there is one at a time
    with _exporting:
        package = eipack.export(module, args, kwargs, programs="torchscript")
        return _open(package, target)


def form_of(value: Any) -> Hashable:
    """Return what decides whether two calls fit one package: nesting, dtypes, shapes, constants."""
    if isinstance(value, Tensor):
        return value.dtype, value.shape
    if isinstance(value, Mapping):
        return type(value), tuple((key, form_of(item)) for key, item in value.items())
    if isinstance(value, tuple | list):
        return type(value), tuple(map(form_of, value))
    return type(value), value if isinstance(value, bool | int | float | str) else None
