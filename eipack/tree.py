"""The nesting of a call's inputs and outputs, as a value that JSON can hold.

A tree says how tensors are nested in tuples, lists, dicts, named tuples and
objects with named fields (dataclasses, the outputs of transformers). It names
no class that would have to be imported: outputs come back as plain containers,
named tuples, or `NamedOutputs`.
"""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Literal

from attrs import frozen

from eipack.errors import SignatureMismatch, UnsupportedModel

Kind = Literal["tensor", "none", "constant", "tuple", "list", "dict", "namedtuple", "object"]
Constant = bool | int | float | str


@frozen
class Tree:
    """One node: a tensor, a constant, or a container with children.

    `keys` name the children of dicts, named tuples and objects; `type_name` is
    the class a person knows the container by.
    """

    kind: Kind
    children: tuple[Tree, ...] = ()
    keys: tuple[str | int, ...] = ()
    value: Constant | None = None
    type_name: str = ""

    @property
    def is_flat(self) -> bool:
        """Tell whether every child is a tensor."""
        return all(child.kind == "tensor" for child in self.children)


TENSOR = Tree("tensor")
NONE = Tree("none")


class NamedOutputs(OrderedDict[str, Any]):
    """Outputs by name, by attribute and by position, as transformers gives them.

    Fields that are None are attributes but no keys.
    """

    def __init__(self, items: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__((key, value) for key, value in items.items() if value is not None)
        self.__dict__.update(items)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return super().__getitem__(key)
        return self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the values that are not None, in order."""
        return tuple(OrderedDict.values(self))

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.__dict__[key] = value

    def __setattr__(self, name: str, value: Any) -> None:
        if value is None:
            OrderedDict.pop(self, name, None)
            self.__dict__[name] = None
        else:
            self[name] = value

    def __reduce__(self) -> tuple[Any, ...]:
        return NamedOutputs, (dict(vars(self)),)


def describe(value: Any, *, constants: bool) -> tuple[Tree, list[Any], list[str]]:
    """Return the tree of a value, its tensors, and a dotted path for each tensor.

    Raises:
        UnsupportedModel: Something in it is neither tensor, None nor a known container
            (numbers and strings are allowed where `constants` is true).
    """
    leaves: list[Any] = []
    paths: list[str] = []
    tree = _describe(value, "", leaves, paths, constants=constants)
    return tree, leaves, paths


def _describe(
    value: Any, path: str, leaves: list[Any], paths: list[str], *, constants: bool
) -> Tree:
    import torch

    if isinstance(value, torch.Tensor):
        leaves.append(value)
        paths.append(path)
        return TENSOR
    if value is None:
        return NONE
    if constants and isinstance(value, bool | int | float | str):
        return Tree("constant", value=value)
    kind, keys, items = _open_container(value, path)

    def child(key: str | int, item: Any) -> Tree:
        inner = f"{path}.{key}" if path else str(key)
        return _describe(item, inner, leaves, paths, constants=constants)

    labels: Sequence[str | int] = keys or range(len(items))
    children = tuple(child(key, item) for key, item in zip(labels, items, strict=True))
    named = kind in ("namedtuple", "object")
    return Tree(kind, children, keys, type_name=type(value).__name__ if named else "")


def _open_container(value: Any, path: str) -> tuple[Kind, tuple[str | int, ...], list[Any]]:
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return "namedtuple", tuple(value._fields), list(value)
    if isinstance(value, tuple):
        return "tuple", (), list(value)
    if isinstance(value, list):
        return "list", (), value
    if is_dataclass(value) and not isinstance(value, type):
        names = tuple(field.name for field in fields(value))
        return "object", names, [getattr(value, name) for name in names]
    if isinstance(value, NamedOutputs):
        return "object", tuple(vars(value)), list(vars(value).values())
    if isinstance(value, Mapping) and all(isinstance(key, str | int) for key in value):
        named = isinstance(value, OrderedDict) and hasattr(value, "to_tuple")
        return "object" if named else "dict", tuple(value), list(value.values())
    where = f" at {path!r}" if path else ""
    raise UnsupportedModel(
        f"a {type(value).__name__}{where} cannot be packaged: inputs and outputs are tensors "
        "in tuples, lists, dicts, named tuples or dataclasses; pass or return tensors only",
        path=path,
    )


def flatten(tree: Tree, value: Any, where: str = "") -> list[Any]:
    """List the tensors of a value that must have the structure of the tree.

    Raises:
        SignatureMismatch: The structure differs; the message says where.
    """
    if tree.kind == "tensor":
        return [value]
    if tree.kind == "none":
        if value is not None:
            raise _mismatch(where, "None", value)
        return []
    if tree.kind == "constant":
        if value != tree.value or type(value) is not type(tree.value):
            raise _mismatch(where, f"the constant {tree.value!r}", value)
        return []
    leaves: list[Any] = []
    labels: Sequence[str | int] = tree.keys or range(len(tree.children))
    items = _children(tree, value, where)
    for key, child, item in zip(labels, tree.children, items, strict=True):
        leaves += flatten(child, item, f"{where}.{key}" if where else str(key))
    return leaves


def _children(tree: Tree, value: Any, where: str) -> list[Any]:
    count = len(tree.children)
    if tree.kind == "object":
        return [_field(value, str(key), where) for key in tree.keys]
    if tree.kind == "dict":
        if not isinstance(value, Mapping) or set(value) != set(tree.keys):
            raise _mismatch(where, f"a dict with the keys {list(tree.keys)}", value)
        return [value[key] for key in tree.keys]
    sequence = list if tree.kind == "list" else tuple
    if not isinstance(value, sequence) or len(value) != count:
        raise _mismatch(where, f"a {tree.kind} of {count}", value)
    return list(value)


def _field(value: Any, name: str, where: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name)
    try:
        return getattr(value, name)
    except AttributeError:
        raise _mismatch(where, f"an object with the field {name!r}", value) from None


def _mismatch(where: str, expected: str, value: Any) -> SignatureMismatch:
    found = f"{type(value).__name__}"
    if isinstance(value, Mapping):
        found = f"a {found} with the keys {list(value)}"
    elif isinstance(value, tuple | list):
        found = f"a {found} of {len(value)}"
    elif isinstance(value, bool | int | float | str):
        found = repr(value)
    place = f" at {where!r}" if where else ""
    return SignatureMismatch(f"wrong structure{place}: expected {expected}, got {found}")


def unflatten(tree: Tree, leaves: Iterator[Any]) -> Any:
    """Nest tensors again as the tree says; the inverse of `flatten`."""
    if tree.kind == "tensor":
        return next(leaves)
    if tree.kind == "none":
        return None
    if tree.kind == "constant":
        return tree.value
    items = [unflatten(child, leaves) for child in tree.children]
    if tree.kind == "tuple":
        return tuple(items)
    if tree.kind == "list":
        return items
    if tree.kind == "namedtuple":
        return _named_tuple(tree.type_name, tree.keys)(*items)
    named = dict(zip(tree.keys, items, strict=True))
    return named if tree.kind == "dict" else NamedOutputs({str(k): v for k, v in named.items()})


@cache
def _named_tuple(name: str, fields: tuple[str | int, ...]) -> Callable[..., Any]:
    return namedtuple(name, [str(field) for field in fields])  # noqa: PYI024 - made at run time
