"""How-to pages of frameworks as their readers follow them: the page's own code, on free ports."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from attrs import define, field, frozen
from markdown_it import MarkdownIt

HOWTO = Path(__file__).parents[3] / "docs" / "howto"
START_S = 120.0
STOP_S = 30.0
SERVER = "starts a server that stays"
CLIENT = "needs the server"


@frozen
class Fence:
    """A block of a page: its language, its marks and its text."""

    language: str
    marks: dict[str, str]
    text: str


@define
class Page:
    """A page on the way through it: its files in a folder, its names in a namespace."""

    fences: list[Fence]
    folder: Path
    ports: dict[str, int]
    names: dict[str, Any] = field(factory=lambda: {"__name__": "page"})

    @classmethod
    def of(cls, name: str, folder: Path, *ports: str) -> Page:
        """Read a page, each of the ports in it replaced by one that is free now."""
        text = (HOWTO / name).read_text()
        free = {port: free_port() for port in ports}
        for port, other in free.items():
            assert port in text, f"{name} has no port {port}"
            text = text.replace(port, str(other))
        fences = []
        for token in MarkdownIt().parse(text):
            if token.type == "fence":
                language, *marks = shlex.split(token.info) or [""]
                named = dict(mark.partition("=")[::2] for mark in marks)
                fences.append(Fence(language, named, token.content))
        return cls(fences, folder, free)

    def prepare(self) -> Page:
        """Make the package and write the files, as the page says before the server is started."""
        with chdir(self.folder):
            for one in self.fences:
                if "title" in one.marks:
                    Path(one.marks["title"]).write_text(one.text)
                elif one.language == "python" and not one.marks:
                    exec(one.text, self.names)
        return self

    @property
    def command(self) -> list[str]:
        """The command that starts the server."""
        (one,) = (one for one in self.fences if one.marks.get("skip") == SERVER)
        return shlex.split(one.text.splitlines()[0].removeprefix("$ "))

    def call(self) -> dict[str, Any]:
        """Run what the page runs against the server; give the names that it made."""
        with chdir(self.folder):
            for one in self.fences:
                if one.language == "python" and one.marks.get("skip") == CLIENT:
                    exec(one.text, self.names)
        return self.names


@contextmanager
def running(
    command: list[str], folder: Path, ready: str, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends, from when it answers at the address `ready`."""
    here = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=output,
            stderr=output,
            env=os.environ | here | {"OMP_NUM_THREADS": "1"} | environment,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + START_S
        while not answers(ready):
            assert process.poll() is None, f"it ended: {log.read_text()[-4000:]}"
            assert time.monotonic() < until, f"it does not start: {log.read_text()[-4000:]}"
            time.sleep(0.2)
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server, and whatever it started and left."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def answers(address: str) -> bool:
    """Ask whether an address answers with success."""
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def free_port() -> int:
    """Return a port that is free now: not every framework can be given port 0."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


Ask = Callable[[torch.Tensor], torch.Tensor]


def storm(
    connect: Callable[[], AbstractContextManager[Ask]],
    model: torch.nn.Module,
    *,
    calls: int = 1000,
    clients: int = 8,
) -> int:
    """Let clients call at once and hold each answer to the eager model; give their number."""

    def client(seed: int) -> int:
        draw = torch.Generator().manual_seed(seed)
        with connect() as ask:
            for number in range(calls // clients):
                x = torch.rand(1 + number % 5, 16, generator=draw)
                with torch.inference_mode():
                    expected = model(x)
                torch.testing.assert_close(ask(x), expected)
        return calls // clients

    with ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(client, range(clients)))
