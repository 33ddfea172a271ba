"""The `forward` of every ScriptModule, such that each call goes where the context says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from eipack_eia.compat.context import accelerator_for
from eipack_eia.compat.sessions import call

if TYPE_CHECKING:
    from torch.jit import ScriptModule


class RoutedForward:
    """A module's forward method; where it runs is decided at each call, not when it is fetched."""

    __slots__ = ("_method", "_module")

    def __init__(self, module: ScriptModule, method: Any) -> None:
        self._module = module
        self._method = method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run on the accelerator of the context, or else on the client.

        Raises:
            EipackError: The accelerator cannot run it; it never runs elsewhere instead.
        """
        target = accelerator_for(self._module)
        if target is None:
            return self._method(*args, **kwargs)
        return call(self._module, target, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)

    def __repr__(self) -> str:
        return repr(self._method)


class ForwardDescriptor:
    """Stand in for torch's `_CachedForward`.

    It has `__set__`, so Python asks it before it looks for the method that torch keeps in the
    module itself.
    """

    def __init__(self, original: Any) -> None:
        self.original = original

    def __get__(self, module: ScriptModule | None, owner: type | None = None) -> Any:
        if module is None:
            return self.original.__get__(None, owner)
        method = vars(module).get("forward")
        if method is None:
            method = module.__getattr__("forward")
        # while torch traces, it looks at the class of what it calls
        if torch._C._get_tracing_state() is None and isinstance(
            method, torch._C.ScriptMethod | RoutedForward
        ):
            return RoutedForward(module, method)
        return method

    def __set__(self, module: ScriptModule, value: Any) -> None:
        vars(module)["forward"] = value

    def __delete__(self, module: ScriptModule) -> None:
        if "forward" not in vars(module):
            raise AttributeError("forward")
        del vars(module)["forward"]
