"""Documents in the text format of protocol buffers, as Triton reads its configurations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


class Word(str):
    """The name of an enumeration's value, which stands without quotation marks."""

    __slots__ = ()


def text_of(document: Mapping[str, Any]) -> str:
    """Return a message of strings, numbers, words, lists and further messages."""
    return "\n".join(_fields(document)) + "\n"


def _fields(document: Mapping[str, Any]) -> Iterator[str]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield f"{name} {_message(value)}"
        elif isinstance(value, list):
            yield f"{name}: [{', '.join(map(_scalar, value))}]"
        else:
            yield f"{name}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, Mapping):
        return _message(value)
    if isinstance(value, Word):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _message(document: Mapping[str, Any]) -> str:
    return "{" + ", ".join(_fields(document)) + "}"
