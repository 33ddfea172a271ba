"""Which program kinds a package shall have, and by which methods each may be captured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from attrs import frozen

from eipack.capture.reference import Origin
from eipack.errors import BackendNotFound, MethodConflict
from eipack.kinds import PORTABLE
from eipack.registry import backend
from eipack.target import Target

Method = Literal["trace", "script", "export"]
METHODS: tuple[Method, ...] = ("export", "trace", "script")
"""In the order in which `auto` tries them: torch.export proves what a trace only observes."""

_GIVES: dict[str, tuple[str, ...]] = {
    "trace": ("torchscript",),
    "script": ("torchscript",),
    "export": ("exported", "torchscript", "onnx"),
}


@frozen
class Request:
    """A program to make: its kind, and the methods to try in order."""

    kind: str
    methods: tuple[Method, ...]


Need = tuple[Request, ...]
"""Alternatives, the preferred first: one of them must pass."""


def plan(
    method: str | Sequence[str],
    programs: Sequence[str] | None,
    targets: Sequence[Target],
    origin: Origin,
) -> list[Need]:
    """Return what must be made.

    Programs asked for by kind, or by method, are needed each; with neither, each target needs
    the first of its kinds that can be had. No device is looked for.

    Raises:
        MethodConflict: A method cannot give a kind asked for, or is unknown.
        BackendNotFound: A target's backend is not installed and has no known kinds.
    """
    methods = _methods(method, origin)
    kinds = _kinds(programs)
    if kinds is None and method == "auto":
        return [
            tuple(
                Request(kind, _able(kind, methods))
                for kind in kinds_of(target)
                if _able(kind, methods)
            )
            for target in targets or (Target("cpu"),)
        ]
    if kinds is None:
        return [(Request(_GIVES[one][0], (one,)),) for one in methods]
    return [(request,) for kind in kinds for request in _requests(kind, methods, method, origin)]


def _requests(
    kind: str, methods: tuple[Method, ...], method: str | Sequence[str], origin: Origin
) -> list[Request]:
    able = _able(kind, methods)
    if not able:
        raise MethodConflict(
            f"method {method!r} cannot give {kind!r} programs"
            f"{_of_origin(origin)}; it gives {', '.join(_given(methods))}"
        )
    return [Request(kind, able)] if method == "auto" else [Request(kind, (one,)) for one in able]


def _methods(method: str | Sequence[str], origin: Origin) -> tuple[Method, ...]:
    if not isinstance(method, str | Sequence):
        raise MethodConflict(f"method is {method!r}; choose auto, trace, script, export or several")
    names = (method,) if isinstance(method, str) else tuple(method)
    natural: dict[str, tuple[Method, ...]] = {"torchscript": ("script",), "exported": ("export",)}
    if names == ("auto",):
        return natural.get(origin, METHODS)
    for name in names:
        if name not in _GIVES:
            raise MethodConflict(f"unknown method {name!r}; known: auto, trace, script, export")
        if name not in natural.get(origin, METHODS):
            raise MethodConflict(
                f"a model that is {_a(origin)} already cannot be captured by {name!r}; "
                "leave method='auto'"
            )
    if not names:
        raise MethodConflict("no method was given; leave method='auto'")
    return names  # type: ignore[return-value]


def _a(origin: Origin) -> str:
    return {"torchscript": "TorchScript", "exported": "an exported program", "eager": ""}[origin]


def _of_origin(origin: Origin) -> str:
    return "" if origin == "eager" else f" from a model that is {_a(origin)} already"


def _kinds(programs: Sequence[str] | None) -> tuple[str, ...] | None:
    if programs is None:
        return None
    if not isinstance(programs, str | Sequence):
        raise MethodConflict(f"programs is {programs!r}; choose among {', '.join(PORTABLE)}")
    kinds = (programs,) if isinstance(programs, str) else tuple(dict.fromkeys(programs))
    for kind in kinds:
        if kind not in PORTABLE:
            raise MethodConflict(f"unknown program kind {kind!r}; known: {', '.join(PORTABLE)}")
    if not kinds:
        raise MethodConflict(f"programs is empty; choose among {', '.join(PORTABLE)}")
    return kinds


def _able(kind: str, methods: Sequence[Method]) -> tuple[Method, ...]:
    return tuple(method for method in methods if kind in _GIVES[method])


def _given(methods: Sequence[Method]) -> list[str]:
    return sorted({kind for method in methods for kind in _GIVES[method]})


_WITHOUT_PLUGIN = {"eia": ("torchscript", "exported"), "cuda": ("torchscript", "exported")}


def kinds_of(target: Target) -> tuple[str, ...]:
    """Return the portable kinds that a target's backend takes, the preferred first.

    Packages for `cuda` and `eia` can be made where their plugins are not installed.
    """
    try:
        taken: Sequence[str] = backend(target).kinds_at(target)
    except BackendNotFound:
        if target.device not in _WITHOUT_PLUGIN:
            raise
        taken = _WITHOUT_PLUGIN[target.device]
    return tuple(kind for kind in taken if kind in PORTABLE)
