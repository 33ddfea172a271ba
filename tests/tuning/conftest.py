"""A package with a dynamic batch, and engines of a third party: a sound one and several broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from stevedore.extension import ExtensionManager

import eipack
from eipack import registry
from eipack.tuning import Record, choosing, machine
from eipack.tuning import tune as run_tune

ENGINES = """
import os, signal, time

import torch
from attrs import evolve

from eipack import Target
from eipack_cpu import CpuBackend


class Wrapped:
    def __init__(self, runner):
        self.runner, self.known = runner, {}

    def __call__(self, *inputs):
        return self.runner(*inputs)

    def close(self):
        self.runner.close()


class Remembering(Wrapped):
    def __call__(self, *inputs):
        key = tuple(bytes(leaf.numpy().data) for leaf in inputs)
        if key not in self.known:
            self.known[key] = self.change(self.runner(*inputs))
        return self.known[key].clone()

    def change(self, output):
        return output


class Rounding(Remembering):
    def change(self, output):
        return output.bfloat16().float()


class WrongAtThree(Remembering):
    def change(self, output):
        return output + 1 if output.shape[0] == 3 else output


class Slow(Wrapped):
    def __call__(self, *inputs):
        time.sleep(0.02)
        return self.runner(*inputs)


class Exiting(Wrapped):
    def __call__(self, *inputs):
        os._exit(7)


class Engine(CpuBackend):
    kinds = ("torchscript",)
    options = frozenset()

    def devices(self):
        return [evolve(one, target=Target("cpu", self.engine)) for one in super().devices()]

    def load(self, reader, target, options):
        return self.wrap(super().load(reader, target, options), options)


class Quick(Engine):
    engine = "quick"
    engine_options = {"mode": "says nothing"}

    def wrap(self, runner, options):
        return Remembering(runner)


class Rough(Engine):
    engine = "rough"
    precisions = ("float32", "bfloat16")

    def wrap(self, runner, options):
        return Slow(runner) if options.precision == "float32" else Rounding(runner)


class Crooked(Engine):
    engine = "crooked"

    def wrap(self, runner, options):
        return WrongAtThree(runner)


class Ending(Engine):
    engine = "ending"

    def wrap(self, runner, options):
        return Exiting(runner)


class Crashing(Engine):
    engine = "crashing"

    def wrap(self, runner, options):
        print("about to fall over", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)


class Hanging(Engine):
    engine = "hanging"

    def wrap(self, runner, options):
        time.sleep(600)


class Lacking(Engine):
    engine = "lacking"
    kinds = ("onnx",)


class Refusing(Engine):
    engine = "refusing"

    def wrap(self, runner, options):
        raise RuntimeError("no operator for that\\nand a long story")
"""
NAMES = ("Quick", "Rough", "Crooked", "Ending", "Crashing", "Hanging", "Lacking", "Refusing")


def forget_plugins() -> None:
    """Let entry points be looked up anew."""
    ExtensionManager.ENTRY_POINT_CACHE.clear()
    registry._load.cache_clear()
    machine._versions.cache_clear()


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Install the engines, as pip would."""
    site = tmp_path_factory.mktemp("site")
    (site / "eipack_odd.py").write_text(ENGINES)
    info = site / "eipack_odd-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: eipack-odd\nVersion: 1.0\n")
    lines = [f"cpu.{name.lower()} = eipack_odd:{name}" for name in NAMES]
    (info / "entry_points.txt").write_text("\n".join(["[eipack.backends]", *lines, ""]))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        forget_plugins()
        yield
    forget_plugins()


@pytest.fixture(scope="session")
def package(shared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a package whose calls take some time; its batch has 1 to 8 rows."""
    torch.manual_seed(0)
    wide = torch.nn.Linear(2048, 2048)
    model = torch.nn.Sequential(
        torch.nn.Linear(16, 2048), torch.nn.ReLU(), wide, torch.nn.Linear(2048, 4)
    )
    exported = eipack.export(
        model.eval(),
        (torch.randn(2, 16),),
        dynamic_shapes={"input": {0: torch.export.Dim("batch", min=1, max=8)}},
        method="trace",
        name="wide",
    )
    return exported.save(tmp_path_factory.mktemp("package") / "wide.eipack")


@pytest.fixture(scope="session")
def fixed_package(shared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small package without a dynamic batch."""
    exported = eipack.export(
        torch.nn.Linear(4, 2).eval(), (torch.randn(2, 4),), method="trace", name="fixed"
    )
    return exported.save(tmp_path_factory.mktemp("package") / "fixed.eipack")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test a folder of records of its own, and let every warning be given again."""
    monkeypatch.setenv("EIPACK_CACHE_DIR", str(tmp_path / "cache"))
    choosing._warned.clear()
    yield tmp_path / "cache"
    choosing._warned.clear()


Tune = Callable[..., Record]


@pytest.fixture(scope="module")
def tune(engines: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tune]:
    """Tune with the engines of this folder installed, and keep the records out of the way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EIPACK_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield run_tune
