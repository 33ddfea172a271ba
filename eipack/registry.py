"""Discovery of backends: entry points named `device` or `device.engine`.

Listing names imports no plugin; a target imports the one plugin that serves it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from typing import Any, Literal

from attrs import frozen

from eipack.backend import Backend, Device
from eipack.errors import (
    BackendBroken,
    BackendConflict,
    BackendError,
    BackendNotFound,
)
from eipack.target import Target

GROUP = "eipack.backends"
AUTO = "auto"
"""The engine, or device, that `eipack tune` finds for a package; no plugin has this name."""
_EXTRAS = {"cpu", "cuda", "eia"}
_ENGINE_EXTRAS = {"onnxruntime", "openvino"}


@frozen
class BackendInfo:
    """An installed backend: where it comes from, and whether it can be used."""

    name: str
    distributions: tuple[str, ...]
    entry_point: str
    status: Literal["ok", "broken", "conflict"]
    detail: str = ""
    kinds: tuple[str, ...] = ()


def is_auto(target: Target) -> bool:
    """Tell whether a target stands for what tuning finds (`cpu+auto`, `auto`)."""
    return AUTO in (target.device, target.engine)


def names() -> dict[str, list[metadata.EntryPoint]]:
    """List the entry points of each backend name, importing none of them."""
    from stevedore.named import NamedExtensionManager

    manager: Any = NamedExtensionManager(GROUP, names=[], invoke_on_load=False)
    found: dict[str, list[metadata.EntryPoint]] = defaultdict(list)
    for point in manager.list_entry_points():
        if point not in found[point.name]:
            found[point.name].append(point)
    return dict(sorted(found.items()))


def backend(target: Target) -> Backend:
    """Return the backend that serves a target.

    Raises:
        BackendNotFound: No plugin serves it; the message says what to install.
        BackendConflict: Two distributions claim the name.
        BackendBroken: The plugin cannot be imported, or is no backend.
    """
    return _load(target.entry_point)


@cache
def _load(name: str) -> Backend:
    from stevedore.driver import DriverManager
    from stevedore.exception import NoMatches

    installed = names()
    if AUTO in name.split("."):
        raise BackendNotFound(
            f"{name.replace('.', '+')!r} is chosen for a package when `eipack.load` opens it; here "
            "name a device or an engine: `eipack backends` lists them"
        )
    if name not in installed:
        raise _missing(name, installed)
    claimants = owners(name)
    if len(claimants) > 1:
        raise BackendConflict(
            f"backend {name!r} is claimed by {' and '.join(claimants)}; uninstall one of them",
            distributions=claimants,
        )
    try:
        driver: Any = DriverManager(GROUP, name, invoke_on_load=True)
    except NoMatches as error:
        raise _missing(name, installed) from error
    except Exception as error:
        raise BackendBroken(
            f"backend {name!r} of {claimants[0]} cannot be imported: "
            f"{type(error).__name__}: {error}",
            distribution=claimants[0],
        ) from error
    plugin = driver.driver
    if not isinstance(plugin, Backend):
        raise BackendBroken(f"backend {name!r} of {claimants[0]} is no eipack.Backend")
    if Target(plugin.device, plugin.engine).entry_point != name:
        raise BackendBroken(f"backend {name!r} of {claimants[0]} says that it is another one")
    return plugin


def _missing(name: str, installed: dict[str, list[metadata.EntryPoint]]) -> BackendNotFound:
    device, _, engine = name.partition(".")
    there = ", ".join(installed) or "none"
    extra = engine if engine in _ENGINE_EXTRAS else "" if engine else device
    if extra in _EXTRAS | _ENGINE_EXTRAS:
        hint = f'try: pip install "eipack[{extra}]"'
    else:  # no name is guessed that somebody else may have taken
        hint = "install the plugin that does; `eipack backends` lists what is here"
    shown = name.replace(".", "+")
    return BackendNotFound(f"no backend serves {shown!r} (installed: {there}); {hint}")


def owners(name: str) -> list[str]:
    """Return the distributions that claim a backend name."""
    found = {
        distribution.name
        for distribution in metadata.distributions()
        for point in distribution.entry_points
        if point.group == GROUP and point.name == name
    }
    return sorted(found) or ["an unknown distribution"]


def backends() -> list[BackendInfo]:
    """Import every installed backend and say how each fares; a broken one harms no other."""
    result = []
    for name, points in names().items():
        status: Literal["ok", "broken", "conflict"] = "ok"
        detail = ""
        kinds: tuple[str, ...] = ()
        try:
            kinds = _load(name).kinds
        except BackendConflict as error:
            status, detail = "conflict", str(error)
        except BackendError as error:
            status, detail = "broken", str(error)
        result.append(
            BackendInfo(name, tuple(owners(name)), points[0].value, status, detail, tuple(kinds))
        )
    return result


def devices() -> list[Device]:
    """List the devices of every backend that can be used.

    A plugin that breaks the contract and raises is one unhealthy device, which says so.
    """
    return [device for info in backends() if info.status == "ok" for device in _devices(info)]


def _devices(info: BackendInfo) -> Sequence[Device]:
    try:
        return _load(info.name).devices()
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises, the others go on
        name, _, engine = info.name.partition(".")
        detail = f"{info.distributions[0]} cannot list its devices: {error!r}"
        return [Device(Target(name, engine or None), "unknown", healthy=False, detail=detail)]


def locate(target: Target) -> tuple[Backend, Target]:
    """Return the backend of a target, and the target with the ordinal it will really have.

    Raises:
        DeviceNotFound: The device is not there, or not healthy.
    """
    plugin = backend(target)
    return plugin, plugin.find(target).target
