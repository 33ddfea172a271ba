"""What `eipack export` says about shapes and values, read where it enters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import click
from attrs import frozen

from eipack.cli.arguments import ParamType

_DYNAMIC: Final = re.compile(r"([\w.]+):(\d+)=([A-Za-z_]\w*):(\d+):(\d+)")


@frozen
class Dynamic:
    """An axis of an input that follows a named dimension."""

    input: str
    axis: int
    dim: str
    min: int
    max: int


class DynamicType(ParamType):
    """`NAME:AXIS=DIM:MIN:MAX`, as in `x:0=batch:1:64`."""

    name = "NAME:AXIS=DIM:MIN:MAX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text."""
        match = _DYNAMIC.fullmatch(value)
        if match is None:
            self.fail(f"{value!r}; write for example x:0=batch:1:64", param, ctx)
        name, axis, dim, low, high = match.groups()
        if not 1 <= int(low) <= int(high):
            self.fail(f"{value!r}: sizes run from at least 1 up to the larger one", param, ctx)
        return Dynamic(name, int(axis), dim, int(low), int(high))


class SpecType(ParamType):
    """`NAME=LOW:HIGH` or `NAME=a,b,c`: the values that an input accepts."""

    name = "NAME=LOW:HIGH|a,b,c"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text."""
        name, found, text = value.partition("=")
        low, ranged, high = text.partition(":")
        if not name or not found:
            self.fail(f"{value!r}; write NAME=LOW:HIGH or NAME=a,b,c", param, ctx)
        try:
            if ranged:
                return name, {"low": float(low), "high": float(high)}
            return name, {"values": tuple(float(part) for part in text.split(","))}
        except ValueError:
            self.fail(f"{value!r}; write NAME=LOW:HIGH or NAME=a,b,c, with numbers", param, ctx)


class PairType(ParamType):
    """`KEY=VALUE`; the value is JSON where `parse` is true and it can be, else text."""

    def __init__(self, name: str, *, parse: bool = False) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text."""
        key, _, text = value.partition("=")
        if not key or not text:
            self.fail(f"{value!r}; write {self.name}", param, ctx)
        if not self._parse:
            return key, text
        try:
            return key, json.loads(text)
        except ValueError:
            return key, text


def dynamic_shapes(axes: Iterable[Dynamic]) -> dict[str, Any] | None:
    """Return the axes as `dynamic_shapes` of `eipack.export`; dotted names are nested.

    Raises:
        UsageError: One name has two ranges, or one axis two names.
    """
    import torch

    known: dict[str, Dynamic] = {}
    dims: dict[str, Any] = {}
    shapes: dict[Any, Any] = {}
    for one in axes:
        first = known.setdefault(one.dim, one)
        if (first.min, first.max) != (one.min, one.max):
            raise click.UsageError(
                f"--dynamic gives {one.dim} two ranges, {first.min}:{first.max} and "
                f"{one.min}:{one.max}"
            )
        if one.dim not in dims:
            dims[one.dim] = torch.export.Dim(one.dim, min=one.min, max=one.max)
        inner = shapes
        for part in one.input.split("."):
            inner = inner.setdefault(int(part) if part.isdigit() else part, {})
        if one.axis in inner:
            raise click.UsageError(f"--dynamic names axis {one.axis} of {one.input} twice")
        inner[one.axis] = dims[one.dim]
    return shapes or None


def unique(pairs: Iterable[tuple[str, Any]], option: str) -> Mapping[str, Any]:
    """Return pairs as a mapping.

    Raises:
        UsageError: A key occurs twice.
    """
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise click.UsageError(f"{option} names {key} twice")
        found[key] = value
    return found
