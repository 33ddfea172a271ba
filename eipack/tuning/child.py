"""The process in which one candidate is loaded, checked and timed: `python -m eipack.tuning.child`.

It reads a request a line on stdin and answers each with a line of JSON on what was stdout; whatever
else writes to stdout writes to stderr. It ends when stdin does, even in the middle of a call.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Any, TextIO

from eipack.errors import EipackError, ParityFailed
from eipack.loading import load
from eipack.measuring.environment import manifest_digest
from eipack.measuring.loop import time_calls
from eipack.session import Session, reason_of
from eipack.tuning import trials

Answer = dict[str, Any]
_FEWEST_CALLS = 3
_PR_SET_PDEATHSIG = 1


class Worker:
    """Do what the requests say with the one session that this process has."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._arguments: dict[int, Any] = {}

    def open(self, asked: Mapping[str, Any]) -> Answer:
        """Load the package as a user would."""
        started = perf_counter()
        session = self._session = load(
            asked["package"],
            asked["target"],
            program=asked["program"],
            precision=asked["precision"],
            threads=asked["threads"],
            options=asked["options"],
            trust=asked["trust"],
        )
        return {
            "load_ms": (perf_counter() - started) * 1e3,
            "threads": session.info.threads,
            "digest": manifest_digest(session.package),
        }

    def draw(self, asked: Mapping[str, Any]) -> Answer:
        """Draw the trials; this session's answers are those that count."""
        folder = Path(asked["folder"])
        return {"sizes": trials.draw(self._open, asked["batches"], folder, asked["seconds"])}

    def check(self, asked: Mapping[str, Any]) -> Answer:
        """Hold the session to the trials, and get ready to be timed."""
        self._folder = Path(asked["folder"])
        loss = trials.check(self._open, self._folder, asked["count"], asked["precision"])
        gc.collect()
        gc.disable()
        return {"loss": loss}

    def time(self, asked: Mapping[str, Any]) -> Answer:
        """Time calls for so many seconds after one that does not count, three at least."""
        session, samples = self._open, list[int]()
        args, kwargs = self._inputs(asked["trial"])
        time_calls(session, args, kwargs, 1)
        end = perf_counter() + asked["seconds"]
        while len(samples) < _FEWEST_CALLS or perf_counter() < end:
            samples += time_calls(session, args, kwargs, 1)
        return {"samples_ns": samples}

    def _inputs(self, trial: int) -> Any:
        if trial not in self._arguments:
            signature = self._open.signature
            inputs, _ = trials.read(self._folder, trial, signature)
            self._arguments[trial] = signature.nest(inputs)
        return self._arguments[trial]

    @property
    def _open(self) -> Session:
        if self._session is None:
            raise EipackError("nothing is open")
        return self._session


def main() -> None:
    """Answer requests until there are no more."""
    _end_with_parent()
    answers = _own_stdout()
    requests: SimpleQueue[dict[str, Any]] = SimpleQueue()
    Thread(target=_read, args=(os.dup(0), requests), daemon=True).start()
    _silence_stdin()
    worker = Worker()
    while True:
        asked = requests.get()
        try:
            answer = getattr(worker, asked["do"])(asked)
        except ParityFailed as error:
            answer = {"error": str(error), "verdict": "wrong"}
        except Exception as error:  # noqa: BLE001 - every failure is a candidate's, and is told
            answer = {"error": _said(error), "verdict": "failed"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, EipackError) else reason_of(error)


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


if __name__ == "__main__":
    main()
