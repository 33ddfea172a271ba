"""AOTInductor in a process of its own: from an exported program to a shared library.

`build` starts `python -m eipack.aotinductor FOLDER`. The folder holds `model.pt2` and `job.json`;
the library `model.so` and `wanted.json` (the names of the tensors that the library reads from
elsewhere) come to lie beside them. A compiler that fails, talks or hangs does the caller no harm.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from eipack.dtypes import torch_dtype
from eipack.errors import UnsupportedModel
from eipack.signature import DimSize, Signature

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from eipack.manifest import Convention

LIBRARY: Final = "model.so"
WANTED: Final = "wanted.json"
_MODEL: Final = "model.pt2"
_JOB: Final = "job.json"
_REASON: Final = "reason.txt"
_PATIENCE_S: Final = 1800


def build(
    exported: ExportedProgram,
    signature: Signature,
    convention: Convention,
    settings: Mapping[str, Any],
    place: Path,
) -> None:
    """Compile a program; the library and `wanted.json` are written to the folder `place`.

    `settings` has the torch `device` and AOTInductor's own options. The program stays as it was.

    Raises:
        UnsupportedModel: It cannot be compiled, not within half an hour, or there is no compiler.
    """
    with tempfile.TemporaryDirectory(prefix="eipack-", ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        _write(exported, signature, convention, scratch / _MODEL)
        (scratch / _JOB).write_text(json.dumps(dict(settings)), encoding="utf-8")
        _run(scratch)
        for made in (LIBRARY, WANTED):
            shutil.move(scratch / made, place / made)


def _write(
    exported: ExportedProgram, signature: Signature, convention: Convention, path: Path
) -> None:
    from eipack.capture.quiet import quiet

    clone = copy.copy(exported)
    leaves = tuple(
        torch.zeros([_size(size, signature) for size in spec.shape], dtype=torch_dtype(spec.dtype))
        for spec in signature.inputs
    )
    clone._example_inputs = signature.nest(leaves) if convention == "native" else (leaves, {})
    with quiet():
        torch.export.save(clone, path)


def _size(size: Any, signature: Signature) -> int:
    """Return a size that is neither 0 nor 1 if it may be another."""
    if not isinstance(size, DimSize):
        return int(size)
    dim = signature.dim(size.dim)
    usual = max(dim.min, 2) if dim.max is None else min(max(dim.min, 2), dim.max)
    return size.at({dim.name: usual if dim.admits(usual) else dim.min})


def _run(scratch: Path) -> None:
    command = [sys.executable, "-m", "eipack.aotinductor", str(scratch)]
    environment = {
        **os.environ,
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "cache"),
        "TRITON_CACHE_DIR": str(scratch / "triton"),
        "TMPDIR": str(scratch),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }
    try:
        done = subprocess.run(  # noqa: S603 - this very Python
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=_PATIENCE_S,
        )
    except subprocess.TimeoutExpired as error:
        raise UnsupportedModel(
            f"AOTInductor did not compile the program within {_PATIENCE_S} s"
        ) from error
    if done.returncode:
        told = scratch / _REASON
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = told.read_text(encoding="utf-8") if told.exists() else (said or ["it died"])[-1]
        raise UnsupportedModel(reason)


def main(folder: str) -> int:
    """Compile what lies in a folder; write why not if it cannot be done."""
    scratch = Path(folder)
    try:
        _compile(scratch)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent tells it in one line
        (scratch / _REASON).write_text(_reason(error), encoding="utf-8")
        return 1
    return 0


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if "InvalidCxxCompiler" in type(error).__name__ or "No working C++ compiler" in text:
        return (
            "AOTInductor needs a C++ compiler and found none; install g++ or name one in CXX, "
            "compile the package on another machine of this kind (eipack compile), or take "
            "another engine"
        )
    first = text.splitlines()[0][:300] if text else type(error).__name__
    return f"AOTInductor cannot compile the program: {first}"


def _compile(scratch: Path) -> None:
    settings = json.loads((scratch / _JOB).read_text(encoding="utf-8"))
    device = torch.device(settings.pop("device"))
    exported = torch.export.load(scratch / _MODEL)
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        exported = move_to_device_pass(exported, device)
    there = {*exported.state_dict, *exported.constants}
    apart = not settings.get("freezing", False)
    wanted = _library(exported, settings, scratch, device, apart=apart)
    if not wanted <= there:  # tensors that only the compiler knows
        wanted = _library(exported, settings, scratch, device, apart=False)
    (scratch / WANTED).write_text(json.dumps(sorted(wanted)), encoding="utf-8")


def _library(
    exported: ExportedProgram,
    settings: Mapping[str, Any],
    scratch: Path,
    device: torch.device,
    *,
    apart: bool,
) -> set[str]:
    """Write the library; return the tensors that it lacks, if they stay `apart` from it."""
    from torch._inductor import aoti_compile_and_package

    configs = {
        **settings,
        "aot_inductor.package_constants_in_so": not apart,
        "aot_inductor.embed_kernel_binary": True,
        "aot_inductor.precompile_headers": False,  # they would be used once
        "cpp_cache_precompile_headers": False,
        # the caller says how many threads a call takes, here and on other machines
        "cpp.dynamic_threads": True,
    }
    archive = scratch / "compiled.pt2"
    with torch.no_grad():
        aoti_compile_and_package(exported, package_path=str(archive), inductor_configs=configs)
    with zipfile.ZipFile(archive) as members:
        (code,) = (name for name in members.namelist() if name.endswith(".so"))
        (scratch / LIBRARY).write_bytes(members.read(code))
    archive.unlink()
    if not apart:
        return set()
    names = open_library(scratch / LIBRARY, 1, device).get_constant_names_to_original_fqns()
    return set(names.values())


def open_library(path: Path, models: int, device: torch.device) -> Any:
    """Load a library into this process, for so many calls at once."""
    aoti: Any = torch._C._aoti
    if device.type == "cuda":
        return aoti.AOTIModelContainerRunnerCuda(str(path), models, str(device), "")
    return aoti.AOTIModelContainerRunnerCpu(str(path), models)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
