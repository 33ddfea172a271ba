"""One way to run a model, in a process of its own: an engine called by hand, or an eipack session.

A contender builds itself, says so, and then times as many calls as each line on stdin asks for.
By hand means what a careful user of the engine writes: weights frozen, graphs optimised, float32
as float32, one thread a core, inputs and outputs without copies where the engine allows it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

Call = Callable[..., Any]


def contend(way: str, name: str, package: str) -> None:
    """Build one contender for a model, and time calls for whoever asks, until stdin ends."""
    import torch

    from benchmarks.models import build, inputs
    from eipack.measuring.loop import time_calls, without_garbage_collection

    said, sys.stdout = sys.stdout, sys.stderr  # engines may print
    began = perf_counter()
    if way.startswith("eipack"):
        call = _session(way, package)
        given: Any = inputs(name)
    else:
        model, given = build(name)
        call = _BY_HAND[way](model, given)
    with torch.inference_mode(), without_garbage_collection():
        call(*given)
        _tell(said, {"ready_s": perf_counter() - began, "ran_on": getattr(call, "ran_on", way)})
        for line in sys.stdin:
            time_calls(call, given, {}, 1)
            _tell(said, time_calls(call, given, {}, int(line)))


def _tell(out: Any, value: object) -> None:
    print(json.dumps(value), file=out, flush=True)


class _Named:
    """A session as a callable that says on what it really runs."""

    def __init__(self, session: Any) -> None:
        self._session = session
        loss = session.info.loss
        self.ran_on = f"{session.target} {session.program.id}" + (
            f" {loss.precision}, loss {loss.relative:.1g}" if loss else ""
        )

    def __call__(self, *inputs: Any) -> Any:
        return self._session(*inputs)


def _session(way: str, package: str) -> Call:
    """Open a package: `eipack cpu+auto`, or `eipack cpu+auto bfloat16`."""
    import eipack

    _, target, *precision = way.split()
    chosen: Any = precision[0] if precision else "float32"
    return _Named(eipack.load(package, target, precision=chosen))


def _eager(model: Any, given: Any) -> Call:
    call: Call = model
    return call


def _compiled(model: Any, given: Any) -> Call:
    import torch
    from torch._inductor import config

    config.freezing = True
    call: Call = torch.compile(model)
    return call


def _torchscript(model: Any, given: Any) -> Call:
    import torch

    with torch.no_grad():
        traced: Any = torch.jit.trace(model, given, strict=False, check_trace=False)  # type: ignore[no-untyped-call]
        optimised: Call = torch.jit.optimize_for_inference(torch.jit.freeze(traced.eval()))
    for _ in range(3):
        optimised(*given)  # it compiles itself in its first calls
    return optimised


def _aotinductor(model: Any, given: Any) -> Call:
    import torch
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    folder = tempfile.mkdtemp()
    with torch.no_grad():
        exported = torch.export.export(model, given)
        path = aoti_compile_and_package(
            exported,
            package_path=str(Path(folder) / "model.pt2"),
            inductor_configs={"freezing": True},
        )
    call: Call = aoti_load_package(path)
    return call


def _onnxruntime(model: Any, given: Any) -> Call:
    import onnxruntime
    import torch

    folder = tempfile.mkdtemp()
    path = str(Path(folder) / "model.onnx")
    with torch.no_grad():
        torch.onnx.export(model, given, path, dynamo=True, verbose=False, external_data=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def call(*inputs: Any) -> Any:
        return session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))

    return call


def _openvino(model: Any, given: Any) -> Call:
    import openvino
    import torch

    with torch.no_grad():
        converted = openvino.convert_model(torch.export.export(model, given))
    compiled = openvino.Core().compile_model(
        converted,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
        },
    )
    request = compiled.create_infer_request()

    def call(*inputs: Any) -> Any:
        return request.infer([x.numpy() for x in inputs], share_inputs=True, share_outputs=True)

    return call


_BY_HAND: dict[str, Callable[[Any, Any], Call]] = {
    "eager": _eager,
    "torch.compile": _compiled,
    "TorchScript": _torchscript,
    "AOTInductor": _aotinductor,
    "ONNX Runtime": _onnxruntime,
    "OpenVINO": _openvino,
}
RIVALS = tuple(_BY_HAND)


def tune(package: str, budget: str, *precisions: str) -> None:
    """Tune a package as the command line does; tell the seconds it took."""
    import subprocess

    from benchmarks.processes import EIPACK

    began = perf_counter()
    words = [f"--precision={one}" for one in precisions]
    subprocess.run(  # noqa: S603 - eipack's own command line
        [*EIPACK, "tune", package, "--target", "cpu", "--budget", budget, *words],
        check=True,
        stdout=sys.stderr,
    )
    _tell(sys.stdout, perf_counter() - began)


def load(target: str, precision: str, package: str, cache: str) -> None:
    """Tell the seconds that it takes to load a package, with the compiled forms of a cache."""
    os.environ["EIPACK_CACHE_DIR"] = cache
    import torch  # noqa: F401 - it is no part of loading a package

    import eipack

    open_package: Any = eipack.load
    began = perf_counter()
    with open_package(package, target, precision=precision):
        _tell(sys.stdout, perf_counter() - began)


def overhead(target: str, package: str, calls: str) -> None:
    """Tell the median ns of a session's call of a small model, and of the engine's, by hand."""
    import torch

    import eipack
    from benchmarks.children import _interleaved
    from benchmarks.models import build, inputs

    by_hand = {"cpu+onnxruntime": _onnxruntime, "cpu+openvino": _openvino}[target]
    model, given = build("small")
    said, sys.stdout = sys.stdout, sys.stderr
    with eipack.load(package, target) as session, torch.inference_mode():
        found = _interleaved([session, by_hand(model, given)], inputs("small"), int(calls))
    _tell(said, found)
