"""Packages inside serving frameworks: one service a process, and thin adapters over it.

Importing this module imports no torch and no framework; each name is imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eipack_serving.failures import BadRequest, Unavailable, status_of
    from eipack_serving.service import PackageService

__all__ = ["BadRequest", "PackageService", "Unavailable", "status_of"]

_HOMES = {
    "BadRequest": "failures",
    "PackageService": "service",
    "Unavailable": "failures",
    "status_of": "failures",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'eipack_serving' has no attribute {name!r}")
    value = getattr(import_module(f"eipack_serving.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
