"""ZeroMQ, DEALER to ROUTER over TCP, without copies where it has none.

Runs in the rivals' environment: `python -m benchmarks.rivals.zeromq serve|call`.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any

from benchmarks.rivals.payload import ANSWER_BYTES, input_bytes
from benchmarks.rivals.timing import pin, tell_p50

zmq: Any = import_module("zmq")


def serve() -> None:
    """Listen at a free port, say which, and answer until ended."""
    router = zmq.Context().socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    print(json.dumps({"port": port}), flush=True)
    while True:
        client, data = router.recv_multipart(copy=False)
        router.send_multipart([client, data.buffer[:ANSWER_BYTES]], copy=False)


def call(size: str, port: str, calls: str, core: str) -> None:
    """Tell the median of calls, in ns."""
    pin(core)
    dealer = zmq.Context().socket(zmq.DEALER)
    dealer.connect(f"tcp://127.0.0.1:{port}")
    data = bytes(input_bytes(size))

    def once() -> int:
        dealer.send(data, copy=False)
        return len(dealer.recv(copy=False).buffer)

    tell_p50(once, ANSWER_BYTES, int(calls))
    dealer.close(linger=0)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        call(*sys.argv[2:])
