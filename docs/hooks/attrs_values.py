"""Let the API pages show how an attrs value is made, as they do for dataclasses."""

# ruff: noqa: INP001 - mkdocs loads this file by its path
from __future__ import annotations

from typing import Any

import griffe

_DECORATORS = {"attrs.frozen", "attrs.define"}


class AttrsValues(griffe.Extension):
    """Give every attrs class the parameters that its fields stand for."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Add an `__init__` made of the annotated fields, in their order."""
        if not any(d.callable_path in _DECORATORS for d in cls.decorators):
            return
        fields = [a for a in cls.attributes.values() if "instance-attribute" in a.labels]
        init = griffe.Function(
            "__init__",
            parameters=griffe.Parameters(_parameter("self", None, None), *map(_of_field, fields)),
            parent=cls,
        )
        cls.set_member("__init__", init)
        for field in fields:
            if not field.docstring:
                cls.del_member(field.name)  # the signature says all there is to say


def _of_field(field: griffe.Attribute) -> griffe.Parameter:
    name = field.name.removeprefix("_")  # as attrs names the parameter of a private field
    return _parameter(name, field.annotation, _default(field.value))


def _parameter(name: str, annotation: Any, default: Any) -> griffe.Parameter:
    kind = griffe.ParameterKind.positional_or_keyword
    return griffe.Parameter(name, annotation=annotation, kind=kind, default=default)


def _default(value: Any) -> Any:
    if not isinstance(value, griffe.ExprCall):
        return value
    given = {
        argument.name: argument.value
        for argument in value.arguments
        if isinstance(argument, griffe.ExprKeyword)
    }
    return given.get("default", "..." if "factory" in given else None)
