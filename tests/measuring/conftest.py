"""A package with two programs, made once, and engines of a third party that fail in many ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from stevedore.extension import ExtensionManager

import eipack
from eipack import registry

ENGINES = """
import os, signal, time

from attrs import evolve

from eipack import Target
from eipack_cpu import CpuBackend


class Counting:
    def __init__(self, runner):
        self.runner, self.calls = runner, 0

    def __call__(self, *inputs):
        self.calls += 1
        return self.runner(*inputs)

    def close(self):
        self.runner.close()


class Crooked(Counting):
    def __call__(self, *inputs):
        return super().__call__(*inputs) + 1


class Ending(Counting):
    def __call__(self, *inputs):
        if self.calls == 30:
            print("about to fall over", flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().__call__(*inputs)


class Hanging(Counting):
    def __call__(self, *inputs):
        if self.calls == 5:
            time.sleep(600)
        return super().__call__(*inputs)


class Failing(Counting):
    def __call__(self, *inputs):
        if self.calls == 5:
            raise RuntimeError("out of luck")
        return super().__call__(*inputs)


class Engine(CpuBackend):
    kinds = ("torchscript",)

    def devices(self):
        return [evolve(one, target=Target("cpu", self.engine)) for one in super().devices()]

    def load(self, reader, target, options):
        return self.wrapper(super().load(reader, target, options))


class CrookedEngine(Engine):
    engine, wrapper = "crooked", Crooked


class EndingEngine(Engine):
    engine, wrapper = "ending", Ending


class HangingEngine(Engine):
    engine, wrapper = "hanging", Hanging


class FailingEngine(Engine):
    engine, wrapper = "failing", Failing
"""
NAMES = ("Crooked", "Ending", "Hanging", "Failing")


def forget_plugins() -> None:
    """Let entry points be looked up anew."""
    ExtensionManager.ENTRY_POINT_CACHE.clear()
    registry._load.cache_clear()


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Install the engines, as pip would."""
    site = tmp_path_factory.mktemp("site")
    (site / "eipack_broken.py").write_text(ENGINES)
    info = site / "eipack_broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: eipack-broken\nVersion: 1.0\n")
    lines = [f"cpu.{name.lower()} = eipack_broken:{name}Engine" for name in NAMES]
    (info / "entry_points.txt").write_text("\n".join(["[eipack.backends]", *lines, ""]))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        forget_plugins()
        yield
    forget_plugins()


@pytest.fixture(scope="session")
def package(shared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small package with two programs; its batch has 1 to 8 rows."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
    exported = eipack.export(
        model.eval(),
        (torch.randn(2, 8),),
        programs=["torchscript", "exported"],
        dynamic_shapes={"input": {0: torch.export.Dim("batch", min=1, max=8)}},
        name="small",
    )
    return exported.save(tmp_path_factory.mktemp("package") / "small.eipack")
