"""The Open Inference Protocol over gRPC: a synchronous server, a blocking client, raw contents.

Runs in the rivals' environment, `python -m benchmarks.rivals.grpc_oip serve|call`, and never in
a process with tritonclient, whose stubs have the same names. The stubs are kept in
that environment.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.rivals.payload import ANSWER, ANSWER_BYTES, SIZES, input_bytes
from benchmarks.rivals.timing import pin, tell_p50

_PROTO = Path(__file__).with_name("open_inference.proto")
_STUBS = Path(sys.prefix) / "stubs"
_THREADS = 4


def stubs() -> tuple[Any, Any]:
    """Return the modules that protoc makes of the protocol, made anew where it has changed.

    Raises:
        RuntimeError: protoc failed.
    """
    made = _STUBS / "open_inference_pb2_grpc.py"
    if not made.exists() or made.stat().st_mtime < _PROTO.stat().st_mtime:
        _STUBS.mkdir(parents=True, exist_ok=True)
        protoc: Any = import_module("grpc_tools.protoc")
        out = [f"--python_out={_STUBS}", f"--grpc_python_out={_STUBS}"]
        if protoc.main(["protoc", f"-I{_PROTO.parent}", *out, _PROTO.name]):
            raise RuntimeError(f"protoc failed on {_PROTO}")
    sys.path.insert(0, str(_STUBS))
    return import_module("open_inference_pb2"), import_module("open_inference_pb2_grpc")


def serve() -> None:
    """Listen at a free port, say which, and answer until ended."""
    grpc: Any = import_module("grpc")
    messages, services = stubs()

    def infer(request: Any, _: Any) -> Any:
        data = request.raw_input_contents[0][:ANSWER_BYTES]
        answer = messages.ModelInferResponse(model_name="echo", raw_output_contents=[data])
        answer.outputs.add(name="output", datatype="FP32", shape=[ANSWER])
        return answer

    servicer = type("Servicer", (services.GRPCInferenceServiceServicer,), {})()
    servicer.ModelInfer = infer
    server = grpc.server(ThreadPoolExecutor(_THREADS))
    services.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"port": port}), flush=True)
    server.wait_for_termination()


def call(size: str, port: str, calls: str, core: str) -> None:
    """Tell the median of calls, in ns; each makes its message, as each has another tensor."""
    pin(core)
    grpc: Any = import_module("grpc")
    messages, services = stubs()
    data = bytes(input_bytes(size))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = services.GRPCInferenceServiceStub(channel).ModelInfer

        def once() -> int:
            request = messages.ModelInferRequest(model_name="echo", raw_input_contents=[data])
            request.inputs.add(name="x", datatype="FP32", shape=SIZES[size])
            return len(infer(request).raw_output_contents[0])

        tell_p50(once, ANSWER_BYTES, int(calls))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        call(*sys.argv[2:])
