"""What is changed in PyTorch and among the modules to import, and how it is put back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any, Final

import torch
from torch.jit import ScriptModule
from torch.jit._trace import TopLevelTracedModule

from eipack_eia.compat.context import attach_eia, detach_all, optimized_execution
from eipack_eia.compat.forward import ForwardDescriptor
from eipack_eia.compat.sessions import close_all
from eipack_eia.compat.startup import forget
from eipack_eia.compat.tracing import tolerant

_undo: Final[list[Callable[[], Any]]] = []


def install() -> None:
    """Give PyTorch what scripts for Elastic Inference use; a second time does nothing."""
    if _undo:
        return
    _replace(torch.jit, "optimized_execution", optimized_execution)
    for name in ("trace", "trace_module"):
        _replace(torch.jit, name, tolerant(vars(torch.jit)[name]))
    for owner in (ScriptModule, TopLevelTracedModule):
        _replace(owner, "forward", ForwardDescriptor(vars(owner)["forward"]))
    for module in _torcheia():
        _provide(module)


def uninstall() -> None:
    """Put everything back and close the sessions; contexts that are open keep their effect."""
    while _undo:
        _undo.pop()()
    close_all()
    detach_all()
    forget()


def _replace(owner: Any, name: str, value: Any) -> None:
    _undo.append(partial(setattr, owner, name, vars(owner)[name]))
    setattr(owner, name, value)


def _provide(module: ModuleType) -> None:
    name = module.__name__
    if name in sys.modules:
        _undo.append(partial(sys.modules.__setitem__, name, sys.modules[name]))
    else:
        _undo.append(partial(sys.modules.pop, name, None))
    sys.modules[name] = module


def _torcheia() -> tuple[ModuleType, ModuleType]:
    """Make the module `torcheia` and its only part."""
    whole: Any = module_from_spec(ModuleSpec("torcheia", None, is_package=True))
    part: Any = module_from_spec(ModuleSpec("torcheia.jit", None))
    part.attach_eia = attach_eia
    whole.jit = part
    return whole, part
