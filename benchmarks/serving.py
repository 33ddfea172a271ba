"""What eipack's adapters add to a call in serving frameworks, beside a minimal handler in each.

Frameworks run in the environments of `make test-serving`, or here if they are installed here.
`eipack serve` has no framework below it, and stands beside FastAPI's minimal handler.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from statistics import median
from time import monotonic, perf_counter_ns, sleep
from typing import Final

import torch
from attrs import frozen

from benchmarks.figure import Figure, as_json, as_text, figure_of
from benchmarks.frameworks import MODEL, SERVERS
from benchmarks.processes import EIPACK, FOLDER, PYTHON, ROOT, fresh
from benchmarks.rivals.packages import make
from benchmarks.rivals.payload import ANSWER_BYTES, SIZES, input_bytes
from benchmarks.rivals.servers import Launch, Missing, running

REPEAT: Final = 5
_ALONE: Final = "serve"
_AT_MOST: Final = 1.10
_CALLS: Final = 1000
_BLOCK: Final = 50
_START_S: Final = 120.0
_ANSWER_S: Final = 10.0
NAMES: Final = (_ALONE, *SERVERS)
_COMMAND: Final = "python -m benchmarks.serving"
_OIP: Final = f"/v2/models/{MODEL}/infer"
_RAW: Final = ("fastapi", "ray")
"""Frameworks whose minimal handlers take and give raw numbers, at `/`."""


@frozen
class Message:
    """A request whose answer ends with a number of bytes of float32."""

    path: str
    body: bytes
    headers: dict[str, str]


@frozen
class Client:
    """A connection that stays open, and what is sent over it."""

    connection: HTTPConnection
    message: Message

    def call(self) -> None:
        """Ask once."""
        sent, connection = self.message, self.connection
        connection.request("POST", sent.path, sent.body, sent.headers)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != 200 or len(data) < ANSWER_BYTES:
            raise ConnectionError(f"it answered {answer.status}: {data[:200]!r}")

    def wake(self) -> None:
        """Ask once, over a new connection if the server has ended one that was quiet."""
        try:
            self.call()
        except (OSError, HTTPException):
            self.connection.close()
            self.call()

    def time(self) -> int:
        """Return how long a call takes, in ns."""
        began = perf_counter_ns()
        self.call()
        return perf_counter_ns() - began


def measure(
    repeat: int = REPEAT, calls: int = _CALLS, names: Sequence[str] = NAMES
) -> list[Figure]:
    """Measure frameworks at both sizes; those that are not installed are told on stderr."""
    figures = []
    for size in SIZES:
        path = FOLDER / f"{MODEL}-{size.partition(' ')[0]}" / f"{MODEL}.eipack"
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh(make, size, path)
        for name in names:
            print(f"measuring {name}, {size}", file=sys.stderr)
            try:
                pairs = [_round(name, str(path), size, calls) for _ in range(repeat)]
            except Missing as error:
                print(f"{name}, {size}: not measured: {error}", file=sys.stderr)
                continue
            figures.append(_figure(name, size, pairs))
    return figures


def _figure(name: str, size: str, pairs: list[tuple[float, float]]) -> Figure:
    ours, minimal = (median(one) for one in zip(*pairs, strict=True))
    who, beside = name, "the framework's own"
    if name == _ALONE:
        who, beside = "eipack serve", "FastAPI's"
    return figure_of(
        f"a call by {who} beside {beside} minimal handler, {size}",
        _AT_MOST,
        "x",
        [adapter / handler for adapter, handler in pairs],
        _COMMAND,
        f"p50 {ours:.0f} µs against {minimal:.0f} µs: {ours - minimal:+.0f} µs",
    )


def _round(name: str, package: str, size: str, calls: int) -> tuple[float, float]:
    """Return the p50 in µs of the adapter and of the minimal handler, which take turns."""
    framework = "fastapi" if name == _ALONE else name
    sides = [
        (_launch(name, "adapter", package, size), _binary(size)),
        (_launch(framework, "minimal", package, size), _minimal(framework, size)),
    ]
    with ExitStack() as stack:
        found = [stack.enter_context(_served(*side)) for side in sides]
        times: list[list[int]] = [[], []]
        for block in range(max(1, calls // _BLOCK) + 1):
            for client, samples in zip(found, times, strict=True):
                client.wake()
                block_times = [client.time() for _ in range(min(_BLOCK, calls))]
                if block:  # the first one warms up
                    samples.extend(block_times)
    ours, minimal = (median(samples) / 1e3 for samples in times)
    return ours, minimal


def _launch(name: str, side: str, package: str, size: str) -> Launch:
    port = _free_port()
    if name == _ALONE:
        return Launch((*EIPACK, "serve", package, "--port", str(port)), port=port)
    words = ("-m", "benchmarks.frameworks", name, side, package, size, str(port))
    return Launch((*_python(name), *words), port=port)


def _python(name: str) -> tuple[str, ...]:
    own = ROOT / "build" / "serving" / name / "bin" / "python"
    if own.exists():
        return (str(own), "-W", "ignore")
    if find_spec(name) is None:
        raise Missing(f"{name} is not installed; run: make test-serving-{name}")
    return PYTHON


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def _minimal(framework: str, size: str) -> Message:
    if framework in _RAW:
        return Message("/", _numbers(size), {"Content-Type": "application/octet-stream"})
    return _binary(size)


def _binary(size: str) -> Message:
    """Return a request of the Open Inference Protocol, its tensors in binary both ways."""
    data = {"binary_data_size": input_bytes(size)}
    given = {"name": "x", "datatype": "FP32", "shape": SIZES[size], "parameters": data}
    document = {"inputs": [given], "parameters": {"binary_data_output": True}}
    head = json.dumps(document).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    return Message(_OIP, head + _numbers(size), headers)


def _numbers(size: str) -> bytes:
    x = torch.randn(SIZES[size], generator=torch.Generator().manual_seed(0))
    return bytes(x.numpy().data.cast("B"))


@contextmanager
def _served(launch: Launch, message: Message) -> Iterator[Client]:
    """Run a server; give a client of it, which was answered once."""
    with running(launch) as (process, said):
        client = Client(HTTPConnection("127.0.0.1", said["port"], timeout=_ANSWER_S), message)
        until = monotonic() + _START_S
        while True:
            try:
                client.call()
                break
            except (OSError, HTTPException) as error:
                client.connection.close()
                if process.poll() is not None or monotonic() > until:
                    raise Missing(f"it does not answer: {error}") from error
                sleep(0.2)
        yield client
        client.connection.close()


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog=_COMMAND, description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--repeat", type=int, default=REPEAT, help="rounds of fresh servers")
    parser.add_argument("--calls", type=int, default=_CALLS, help="calls of each side in a round")
    parser.add_argument("--json", action="store_true", help="print JSON, samples included")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no such framework: {', '.join(sorted(unknown))}")
    figures = measure(options.repeat, options.calls, options.names or NAMES)
    print(json.dumps(as_json(figures), indent=1) if options.json else as_text(figures))


if __name__ == "__main__":
    main()
