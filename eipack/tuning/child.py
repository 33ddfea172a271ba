"""The process in which one candidate is loaded, checked and timed: `python -m eipack.tuning.child`.

`eipack.children` has how it is asked, and how it ends.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from eipack.children import serve
from eipack.errors import EipackError
from eipack.loading import load
from eipack.measuring.environment import manifest_digest
from eipack.measuring.loop import time_calls
from eipack.session import Session
from eipack.tuning import trials

Answer = dict[str, Any]
_FEWEST_CALLS = 3


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


if __name__ == "__main__":
    serve(Worker())
