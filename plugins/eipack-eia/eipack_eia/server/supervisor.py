"""The process behind `eipack eia serve` and `eipack serve`.

It listens, starts a process a slice, and restarts it. The sockets are its own, so that clients can
connect while a process is started anew.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Final
from uuid import uuid4

from attrs import define, evolve, field

from eipack.errors import AcceleratorUnavailable
from eipack.target import Target
from eipack_eia.endpoint import Endpoint
from eipack_eia.server.enforcement import environment_for
from eipack_eia.server.worker import READY, Settings

_BACKLOG: Final = 128
_START_S: Final = 120.0
_STABLE_S: Final = 10.0
_LONGEST_PAUSE_S: Final = 10.0
_POLL_S: Final = 0.1


def listen_at(endpoint: Endpoint, option: str = "--listen") -> tuple[socket.socket, Endpoint]:
    """Listen, and say where: port 0 becomes the one that was free.

    `option` is what the address was chosen by.

    Raises:
        AcceleratorUnavailable: The address is taken, or is none of this host.
    """
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((endpoint.host, endpoint.port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise AcceleratorUnavailable(
            f"cannot listen at {endpoint}: {error.strerror}; choose another {option}"
        ) from error
    return listening, evolve(endpoint, port=listening.getsockname()[1])


def id_in(folder: Path) -> str:
    """Return the id that the accelerator of a store has, and make it if it has none."""
    path = folder / "id"
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = f"eia-{uuid4().hex}"
        path.write_text(f"{made}\n", encoding="ascii")
        return made


@define(eq=False)
class Slice:
    """One accelerator's process, started anew when it ends by itself."""

    settings: Settings
    listening: socket.socket
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    _next: float = field(default=0.0)

    def start(self) -> None:
        """Start the process and wait until it serves.

        Raises:
            AcceleratorUnavailable: It ended before it did, and why.
        """
        environment = os.environ | environment_for(
            self.settings.size, Target.parse(self.settings.on)
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "eipack_eia.server.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self.listening.fileno()],
            env=environment,
            process_group=0,  # Ctrl-C is for the parent, which lets it drain
        )
        self.started = time.monotonic()
        assert self.process.stdin is not None  # noqa: S101 - it is a pipe
        assert self.process.stdout is not None  # noqa: S101 - as above
        # Left open: that it ends is how the process learns that this one is gone.
        self.process.stdin.write(self.settings.to_json() + b"\n")
        self.process.stdin.flush()
        said = self.process.stdout.readline()
        if said != READY:
            self.process.wait(_START_S)
            reason = said.decode("utf-8", "replace").strip() or "it ended, and has said why above"
            raise AcceleratorUnavailable(f"cannot start {self.settings.command}: {reason}")

    def tend(self, say: Callable[[str], None]) -> None:
        """Start the process anew if it has ended, later each time that it ends early."""
        process, now = self.process, time.monotonic()
        if process is not None and process.poll() is not None:
            early = now - self.started < _STABLE_S
            self.failures = self.failures + 1 if early else 1
            pause = min(_LONGEST_PAUSE_S, 0.1 * 2**self.failures) if early else 0.0
            say(f"{self.settings.id} ended with code {process.returncode} and is started anew")
            self.process, self._next = None, now + pause
        if self.process is None and now >= self._next:
            try:
                self.start()
            except (AcceleratorUnavailable, OSError) as error:
                say(str(error))
                self._next = now + _LONGEST_PAUSE_S

    def stop(self) -> None:
        """Ask the process to finish what it has, and wait for it."""
        process = self.process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(self.settings.call_timeout_s + _POLL_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def supervise(slices: Sequence[Slice], say: Callable[[str], None]) -> None:
    """Keep the processes running until SIGTERM or SIGINT, then let them drain."""
    stopping = False

    def stop(_: int, __: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while not stopping:
            for one in slices:
                one.tend(say)
            time.sleep(_POLL_S)
    finally:
        for one in slices:
            one.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
