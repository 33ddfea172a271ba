"""Plugins are found without being imported, and none of them harms another."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import eipack
from eipack import registry
from eipack.errors import BackendBroken, BackendConflict, BackendNotFound, DeviceNotFound
from eipack.target import Target

WORKING = """
from eipack.backend import Backend, Device
from eipack.target import Target

class Npu(Backend):
    device = "npu"
    kinds = ("torchscript",)

    def devices(self):
        hot = Device(Target("npu", None, 1), "two", healthy=False, detail="too hot")
        return [Device(Target("npu", None, 0), "one"), hot]

    def load(self, reader, target, options):
        raise RuntimeError("not in this test")
"""


def install(site: Path, distribution: str, name: str, code: str, attribute: str = "Npu") -> None:
    """Put a distribution with one backend into a folder, as pip would."""
    module = distribution.replace("-", "_")
    (site / f"{module}.py").write_text(code)
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[eipack.backends]\n{name} = {module}:{attribute}\n")


def run(site: Path, code: str) -> str:
    """Run code in a fresh process that sees the folder's distributions."""
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r})\n{code}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_listing_names_imports_no_plugin(tmp_path: Path) -> None:
    install(tmp_path, "eipack-npu", "npu", "raise SystemExit('imported')")
    out = run(
        tmp_path,
        "from eipack import registry\nprint('npu' in registry.names(), 'eipack_npu' in sys.modules,"
        " 'eipack_cpu' in sys.modules, 'torch' in sys.modules)",
    )
    assert out == "True False False False"


def test_a_target_imports_its_own_plugin_only(tmp_path: Path) -> None:
    install(tmp_path, "eipack-npu", "npu", WORKING)
    out = run(
        tmp_path,
        "from eipack import registry\nfrom eipack.target import Target\n"
        "print(type(registry.backend(Target('npu'))).__name__, 'eipack_cpu' in sys.modules)",
    )
    assert out == "Npu False"


def test_a_plugin_that_cannot_be_imported_harms_no_other_and_its_reason_shows(
    tmp_path: Path,
) -> None:
    install(tmp_path, "eipack-npu", "npu", "import no_such_library")
    out = run(
        tmp_path,
        "import eipack\nfor b in eipack.backends(): print(b.name, b.status, b.detail)",
    )
    lines = out.splitlines()
    assert any(
        line.startswith("npu broken") and "eipack-npu" in line and "no_such_library" in line
        for line in lines
    )
    assert any(line.startswith("cpu ok") for line in lines)


def test_loading_a_broken_plugin_says_whose_it_is(tmp_path: Path) -> None:
    install(tmp_path, "eipack-npu", "npu", "1 / 0")
    out = run(
        tmp_path,
        "from eipack import registry, errors\nfrom eipack.target import Target\n"
        "try: registry.backend(Target('npu'))\n"
        "except errors.BackendBroken as error: print(error)",
    )
    assert out == (
        "backend 'npu' of eipack-npu cannot be imported: ZeroDivisionError: division by zero"
    )


def test_two_distributions_with_one_name_are_both_named(tmp_path: Path) -> None:
    install(tmp_path, "eipack-npu", "npu", WORKING)
    install(tmp_path, "other-npu", "npu", WORKING)
    out = run(
        tmp_path,
        "from eipack import registry, errors\nfrom eipack.target import Target\n"
        "try: registry.backend(Target('npu'))\n"
        "except errors.BackendConflict as error: print(error)\n"
        "print(next(b.status for b in registry.backends() if b.name == 'npu'))",
    )
    assert out.splitlines() == [
        "backend 'npu' is claimed by eipack-npu and other-npu; uninstall one of them",
        "conflict",
    ]


def test_what_is_no_backend_is_refused(tmp_path: Path) -> None:
    install(tmp_path, "eipack-npu", "npu", "class Npu: pass")
    install(tmp_path, "eipack-xpu", "xpu", WORKING)
    out = run(
        tmp_path,
        "import eipack\n"
        "for b in eipack.backends():\n  if b.name in ('npu', 'xpu'): print(b.name, b.detail)",
    )
    assert out.splitlines() == [
        "npu backend 'npu' of eipack-npu is no eipack.Backend",
        "xpu backend 'xpu' of eipack-xpu says that it is another one",
    ]


def test_the_devices_of_every_plugin_are_listed_and_the_first_healthy_one_is_taken(
    tmp_path: Path,
) -> None:
    install(tmp_path, "eipack-npu", "npu", WORKING)
    out = run(
        tmp_path,
        "import eipack\nfrom eipack import registry\nfrom eipack.target import Target\n"
        "there = [d.target for d in eipack.devices() if d.target.device in ('cpu', 'npu')]\n"
        "print([str(one) for one in there if one.engine is None])\n"
        "print(registry.locate(Target('npu'))[1])\n"
        "for t in ('npu:1', 'npu:2'):\n"
        "  try: registry.locate(Target.parse(t))\n"
        "  except eipack.EipackError as error: print(error)",
    )
    assert out.splitlines() == [
        "['cpu', 'npu:0', 'npu:1']",
        "npu:0",
        "npu:1: no such device; too hot",
        "npu:2: no such device; there are npu:0, npu:1",
    ]


def test_a_plugin_that_cannot_list_its_devices_is_one_unhealthy_device(tmp_path: Path) -> None:
    install(
        tmp_path,
        "eipack-npu",
        "npu",
        WORKING.replace("        hot =", "        1 / 0\n        hot ="),
    )
    out = run(
        tmp_path,
        "import eipack\n"
        "for d in eipack.devices():\n"
        "  if d.target.device == 'npu': print(d.target, d.healthy, d.detail)",
    )
    assert out.startswith("npu False eipack-npu cannot list its devices: ZeroDivisionError")


def test_a_missing_backend_is_answered_with_what_to_install() -> None:
    with pytest.raises(BackendNotFound, match=r"'npu' \(installed: .*cpu.*\); install the plugin"):
        registry.backend(Target("npu"))
    with pytest.raises(BackendNotFound, match=r"'cpu\+tpurt'.*eipack backends"):
        registry.backend(Target("cpu", "tpurt"))


def test_extras_are_named_for_our_own_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "names", dict)
    registry._load.cache_clear()
    try:
        with pytest.raises(
            BackendNotFound, match=r'installed: none\); try: pip install "eipack\[cuda\]"'
        ):
            registry.backend(Target("cuda"))
    finally:
        registry._load.cache_clear()


def test_provenance_is_the_distribution() -> None:
    cpu = next(info for info in eipack.backends() if info.name == "cpu")
    assert cpu.distributions == ("eipack-cpu",)
    assert cpu.entry_point == "eipack_cpu:CpuBackend"
    assert cpu.status == "ok"
    assert metadata.version(cpu.distributions[0])


def test_errors_inherit_the_nearest_builtin() -> None:
    builtin: dict[type[Any], type[Exception]] = {
        BackendNotFound: LookupError,
        DeviceNotFound: LookupError,
        BackendBroken: ImportError,
        BackendConflict: RuntimeError,
    }
    assert all(issubclass(ours, theirs) for ours, theirs in builtin.items())
