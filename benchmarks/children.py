"""What runs in fresh processes; importing this imports nothing that a reading would then miss.

Arguments arrive as text, results leave as one line of JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any


def make(name: str, path: str, *programs: str) -> None:
    """Export a model and save its package."""
    import eipack
    from benchmarks.models import build

    model, inputs = build(name)
    eipack.export(model, inputs, programs=programs, name=name).save(path)
    _tell(None)


def extract(package: str, path: str) -> None:
    """Write a package's TorchScript program as a file of its own."""
    import eipack

    eipack.open(package).extract("torchscript", path)
    _tell(None)


def weigh(name: str) -> None:
    """Tell the bytes of a model's state dict, ties counted once."""
    from benchmarks.models import build

    model, _ = build(name)
    storages = [tensor.untyped_storage() for tensor in model.state_dict().values()]
    _tell(sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values()))


def load_by_eipack(path: str, name: str) -> None:
    """Tell the seconds of importing eipack, of loading, and of the first call."""
    inputs = _inputs(name)
    start = perf_counter()
    import eipack

    opened = eipack.load
    imported = perf_counter()
    session = opened(path, "cpu", program="torchscript")
    loaded = perf_counter()
    session(*inputs)
    _tell([imported - start, loaded - imported, perf_counter() - loaded])


def load_by_torch(path: str, name: str) -> None:
    """Tell the seconds of torch.jit.load and of the first call."""
    import torch

    inputs = _inputs(name)
    start = perf_counter()
    module = torch.jit.load(path)  # type: ignore[no-untyped-call]
    loaded = perf_counter()
    with torch.inference_mode():
        module(*inputs)
    _tell([0.0, loaded - start, perf_counter() - loaded])


def call_overhead(package: str, file: str, calls: str) -> None:
    """Tell the median ns of a session's call and of the same ScriptModule's, called bare."""
    import torch

    import eipack

    inputs = _inputs("small")
    module = torch.jit.load(file)  # type: ignore[no-untyped-call]
    with eipack.load(package, "cpu") as session, torch.inference_mode():
        _tell(_interleaved([session, module], inputs, int(calls)))


def rebound(name: str, calls: str) -> None:
    """Tell the median ns of a traced module packaged and loaded, and of the module itself."""
    import tempfile

    import torch

    import eipack
    from benchmarks.models import build

    model, inputs = build(name)
    with torch.no_grad():
        traced: Any = torch.jit.trace(model, inputs, strict=False, check_trace=False)  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory() as folder:
        path = eipack.export(traced, inputs).save(Path(folder) / "rebound.eipack")
        with eipack.load(path, "cpu") as session, torch.inference_mode():
            _tell(_interleaved([session, traced], inputs, int(calls)))


def hold(path: str, name: str) -> None:
    """Tell the memory before and after loading and calling, and again when a line comes in."""
    import torch

    import eipack

    inputs = _inputs(name)
    # What PyTorch sets up for itself at the first script and matrix product is not the package's.
    own, x = torch.nn.Linear(256, 256).eval(), torch.zeros(64, 256)
    with torch.inference_mode():
        torch.jit.trace(own, x, check_trace=False)(x)  # type: ignore[no-untyped-call]
        load = eipack.load  # the name imports what loading needs
        before = _memory()
        session = load(path, "cpu", program="torchscript")
        session(*inputs)
    _tell("ready")
    sys.stdin.readline()
    _tell({"before": before, "after": _memory()})
    sys.stdin.readline()
    session.close()


def loop_overhead(calls: str) -> None:
    """Tell what the measuring loop records for a call that does nothing, in ns."""
    from eipack.measuring.loop import time_calls, without_garbage_collection

    with without_garbage_collection():
        time_calls(_nothing, (None,), {}, 1000)
        _tell(sorted(time_calls(_nothing, (None,), {}, int(calls))))


def _nothing(_: object) -> None:
    return None


def _interleaved(
    calls: Sequence[Callable[..., Any]], inputs: Sequence[Any], count: int
) -> list[int]:
    """Time callables in turns of a fortieth of the calls; return the median of each, in ns."""
    from statistics import median

    from eipack.measuring.loop import time_calls, without_garbage_collection

    samples: list[list[int]] = [[] for _ in calls]
    order = list(range(len(calls)))
    turn = max(1, count // 40)
    with without_garbage_collection():
        for call in calls:
            time_calls(call, inputs, {}, 20)
        while len(samples[0]) < count:
            for index in order:
                calls[index](*inputs)
                samples[index] += time_calls(calls[index], inputs, {}, turn)
            order.append(order.pop(0))
    return [int(median(found)) for found in samples]


def _memory() -> dict[str, int]:
    """Return this process's unique and proportional memory in bytes, as Linux counts them."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    sizes = {
        name: int(rest.split()[0]) * 1024 for name, _, rest in (x.partition(":") for x in lines)
    }
    return {"uss": sizes["Private_Clean"] + sizes["Private_Dirty"], "pss": sizes["Pss"]}


def _inputs(name: str) -> Sequence[Any]:
    from benchmarks.models import inputs

    return inputs(name)


def _tell(value: object) -> None:
    print(json.dumps(value), flush=True)
