"""Keep torch from talking while it captures: its warnings, log lines and printed graphs."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_lock = threading.Lock()
_silent: Counter[int] = Counter()
"""How deep each thread is inside `quiet`; the filters below concern these threads alone."""


class _Filter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.name.startswith("torch") and threading.get_ident() in _silent)


class _Stderr:
    """The error stream, without what silent threads write to it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() in _silent else self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


_filter = _Filter()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what torch says of its own work in this thread; nests.

    Log lines and prints of other threads still appear; warnings are filtered for the process,
    since Python has no other way before 3.14.
    """
    _enter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _leave()


def _enter() -> None:
    with _lock:
        if not _silent:
            sys.stderr = _Stderr(sys.stderr)
        _silent[threading.get_ident()] += 1
        for handler in _handlers():
            handler.addFilter(_filter)


def _leave() -> None:
    with _lock:
        _silent[threading.get_ident()] -= 1
        if not _silent[threading.get_ident()]:
            del _silent[threading.get_ident()]
        if _silent:
            return
        for handler in _handlers():
            handler.removeFilter(_filter)
        if isinstance(sys.stderr, _Stderr):
            sys.stderr = sys.stderr.stream


def _handlers() -> Iterator[logging.Handler]:
    """Give every handler that a record of torch's can reach."""
    yield from logging.root.handlers
    if logging.lastResort is not None:
        yield logging.lastResort
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] == "torch" and isinstance(logger, logging.Logger):
            yield from logger.handlers
