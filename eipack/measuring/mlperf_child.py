"""The process in which LoadGen calls a session: `python -m eipack.measuring.mlperf_child`.

LoadGen calls back from C++, where an exception ends the process. So no callback lets one out: the
first is kept, and is the answer to whoever asked, who then ends the process in the middle of the
run.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final

from eipack.children import serve
from eipack.loading import load
from eipack.measuring.batches import resized
from eipack.measuring.given import read_inputs
from eipack.measuring.loop import time_calls
from eipack.measuring.mlperf_driver import Issue, complete, drive
from eipack.measuring.origin import hold

if TYPE_CHECKING:
    from eipack.session import Session

Arguments = tuple[Sequence[Any], Mapping[str, Any]]

_WARM_UP_CALLS: Final = 20
_WARM_UP_NS: Final = 2_000_000_000
_WORKERS: Final = 64
_WARM_WORKERS: Final = 8


class Worker:
    """Open a session, and let LoadGen call it."""

    def open(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Load the package as a user would, check its outputs, warm up; tell the longest call."""
        self._session: Session = load(
            asked["package"],
            asked["target"],
            program=asked["program"],
            precision=asked["precision"],
            threads=asked["threads"],
            options=asked["options"],
            trust=asked["trust"],
        )
        session = self._session
        leaves = read_inputs(session.package, asked["inputs"])
        arguments: Arguments = session.signature.nest(leaves)
        self._rows: int = asked["batch"] or 1
        if asked["batch"] is not None:
            arguments = resized(session.signature, arguments, self._rows)
        self._args, self._kwargs = arguments
        if session.loss is None:  # else loading has held it to its precision's tolerance
            hold(session)
        self._spent_ns = self._warm_up()
        gc.collect()
        gc.disable()
        return {"call_s": max(self._spent_ns) / 1e9}

    def _warm_up(self) -> list[int]:
        """Call up to 20 times or for 2 s; return the latencies."""
        spent: list[int] = []
        while sum(spent) < _WARM_UP_NS and len(spent) < _WARM_UP_CALLS:
            spent += time_calls(self._session, self._args, self._kwargs, 1)
        return spent

    def run(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Let LoadGen run; its files are in the folder afterwards.

        Raises:
            Exception: The first that a call raised; LoadGen still runs then, and is of no use.
        """
        self._failure: BaseException | None = None
        self._over = Event()
        Thread(target=self._test, args=(asked,), daemon=True).start()
        self._over.wait()
        if self._failure is not None:
            raise self._failure
        return {}

    def _test(self, asked: Mapping[str, Any]) -> None:
        test = {"SingleStream": self._single, "Server": self._server, "Offline": self._offline}
        try:
            test[asked["scenario"]](asked)
        except BaseException as error:  # noqa: BLE001 - it is the answer
            self._fail(error)
        self._over.set()

    def _single(self, asked: Mapping[str, Any]) -> None:
        self._call()  # a thread's first call sets up what PyTorch keeps for each thread

        def issue(samples: Sequence[Any]) -> None:
            for sample in samples:
                self._answer([sample.id])

        drive(asked, min(self._spent_ns), self._guarded(issue))

    def _server(self, asked: Mapping[str, Any]) -> None:
        with ThreadPoolExecutor(_WORKERS) as executor:
            for first in [executor.submit(self._call) for _ in range(_WARM_WORKERS)]:
                first.result()

            def issue(samples: Sequence[Any]) -> None:
                for sample in samples:
                    executor.submit(self._answer, [sample.id])

            drive(asked, min(self._spent_ns), self._guarded(issue))

    def _offline(self, asked: Mapping[str, Any]) -> None:
        self._call()
        rate_per_s = asked["rate_per_s"] or self._rows * 1e9 / median(self._spent_ns)

        def issue(samples: Sequence[Any]) -> None:
            # The last batch is as large as the others, whatever is left for it.
            for start in range(0, len(samples), self._rows):
                self._answer([sample.id for sample in samples[start : start + self._rows]])

        asked = {**asked, "rate_per_s": rate_per_s}
        drive(asked, min(self._spent_ns), self._guarded(issue))

    def _answer(self, samples: Sequence[int]) -> None:
        self._call()
        complete(samples)

    def _call(self) -> None:
        """Run once; after a failure nothing is run any more, so that LoadGen ends soon."""
        if self._failure is not None:
            return
        try:
            self._session(*self._args, **self._kwargs)
        except BaseException as error:  # noqa: BLE001 - it is the answer
            self._fail(error)

    def _guarded(self, issue: Issue) -> Issue:
        """Let nothing out to C++."""

        def guarded(samples: Sequence[Any]) -> None:
            try:
                issue(samples)
            except BaseException as error:  # noqa: BLE001 - it is the answer
                self._fail(error)

        return guarded

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._over.set()


if __name__ == "__main__":
    serve(Worker())
