"""The child's end: requests on stdin, a line each, and answers on what was stdout.

Whatever else writes to stdout writes to stderr. The process ends when stdin does, even in the
middle of a call, and with whoever started it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, TextIO

from eipack.errors import EipackError, ParityFailed

_PR_SET_PDEATHSIG: Final = 1


def serve(worker: object) -> None:
    """Answer requests until there are no more; each names a method of the worker.

    The method is given the whole request, and returns what can be written as JSON.
    """
    _end_with_parent()
    answers = _own_stdout()
    requests: SimpleQueue[dict[str, Any]] = SimpleQueue()
    Thread(target=_read, args=(os.dup(0), requests), daemon=True).start()
    _silence_stdin()
    while True:
        asked = requests.get()
        try:
            answer = getattr(worker, asked["do"])(asked)
        except Exception as error:  # noqa: BLE001 - every failure is an answer, and is told
            answer = _told(error)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _told(error: Exception) -> dict[str, Any]:
    if not isinstance(error, EipackError):
        from eipack.session import reason_of

        return {"error": reason_of(error), "verdict": "failed"}
    return {
        "error": str(error),
        "verdict": "wrong" if isinstance(error, ParityFailed) else "failed",
        "class": type(error).__name__,
        "data": {name: value for name, value in error.data.items() if _plain(value)},
    }


def _plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _own_stdout() -> TextIO:
    """Keep stdout for answers, and send what engines print to stderr."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return own


def _end_with_parent() -> None:
    """Have the kernel end this process with whoever started it, even while it is stopped."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _silence_stdin() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _read(descriptor: int, requests: SimpleQueue[dict[str, Any]]) -> None:
    with os.fdopen(descriptor, encoding="utf-8") as lines:
        for line in lines:
            requests.put(json.loads(line))
    os._exit(0)  # whoever asked is gone, or wants nothing more
