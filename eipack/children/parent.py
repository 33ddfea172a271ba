"""The parent's end of a child process: requests, answers in time, and what it died of."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path
from time import monotonic, perf_counter_ns
from typing import Any, Final, Literal

from eipack import errors
from eipack.errors import EipackError

_END_S: Final = 3.0
_TAIL: Final = 4096
_numbers = count()


class Lost(Exception):
    """What was asked for failed; says why in one line.

    `verdict` is `wrong` where outputs were not the right ones. `error` is the child's own error, if
    that was one of eipack's. `over` tells that the process is gone, or answers no more.
    """

    def __init__(
        self,
        verdict: Literal["failed", "wrong"],
        reason: str,
        error: EipackError | None = None,
        *,
        over: bool = False,
    ) -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.reason = reason
        self.error = error
        self.over = over


class Child:
    """One process that runs a module which calls `serve`; it starts at once.

    It imports while others work. `began_ns` is when it was started, by `perf_counter_ns`, whose
    clock all processes of a machine share.
    """

    def __init__(self, module: str, folder: Path) -> None:
        self._log = folder / f"child-{next(_numbers)}.log"
        self.began_ns = perf_counter_ns()
        with self._log.open("wb") as said:
            self._process = subprocess.Popen(  # noqa: S603 - the module is one of eipack's
                [sys.executable, "-P", "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env=os.environ | {"PYTHONPATH": _path()},
                start_new_session=True,  # so that what it starts ends with it
            )
        self._buffer = b""
        self._doing = ""
        self._ended = False

    def ask(self, do: str, **asked: Any) -> None:
        """Send a request.

        Raises:
            Lost: The process has ended.
        """
        self._doing = do
        pipe = self._process.stdin
        try:
            if pipe is not None:
                pipe.write(json.dumps({"do": do, **asked}).encode() + b"\n")
                pipe.flush()
        except OSError as error:
            raise Lost("failed", self._died(), over=True) from error

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """Return the answer to the last request; None if there is none so far.

        Raises:
            Lost: The process has ended, or it says that it failed.
        """
        end = monotonic() + seconds
        while b"\n" not in self._buffer:
            data = self._receive(max(0.0, end - monotonic()))
            if data is None:
                return None
            if not data:
                raise Lost("failed", self._died(), over=True)
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Lost(answer["verdict"], answer["error"], _error(answer))
        return answer

    def call(self, do: str, within_s: float, **asked: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            Lost: There is none within the time, or it says that it failed.
        """
        self.ask(do, **asked)
        answer = self.answer(within_s)
        if answer is None:
            raise Lost("failed", f"gave no answer within {within_s:.3g} s ({do})", over=True)
        return answer

    def pause(self, *, on: bool) -> None:
        """Stop the process and what it started, or let them go on."""
        with suppress(ProcessLookupError, PermissionError):
            if not self._ended and self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGSTOP if on else signal.SIGCONT)

    def end(self) -> None:
        """Let the process end, and end it and all that it started if it does not."""
        if self._ended:
            return
        self._ended = True
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if self._doing in ("", "open") else _END_S)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _receive(self, seconds: float) -> bytes | None:
        pipe = self._process.stdout
        if pipe is None or pipe.closed:
            return b""
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            return os.read(pipe.fileno(), 1 << 16) if selector.select(seconds) else None

    def _died(self) -> str:
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return f"stopped answering ({self._doing})"
        how = f"exited with {code}" if code >= 0 else f"was ended by {_signal(-code)}"
        said = self._last_line()
        return f"its process {how} ({self._doing})" + (f": {said}" if said else "")

    def _last_line(self) -> str:
        data = self._log.read_bytes()[-_TAIL:]
        lines = [line.strip() for line in data.decode(errors="replace").splitlines()]
        return next((line[:200] for line in reversed(lines) if line), "")


def _error(answer: dict[str, Any]) -> EipackError | None:
    """Make the child's error again, if it was one of eipack's own tree."""
    found = getattr(errors, answer.get("class", ""), None)
    if not (isinstance(found, type) and issubclass(found, EipackError)):
        return None
    return found(answer["error"], **answer["data"])


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _path() -> str:
    """Return where this process finds modules, so that a child finds the same plugins."""
    return os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
