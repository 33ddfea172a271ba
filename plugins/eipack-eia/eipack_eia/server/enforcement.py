"""Holding a slice to its size, as far as the device lets itself be held; told honestly.

Accounting at admission always holds for the models' memory. Beyond it: on CUDA the fraction of
PyTorch's allocator, and compute where an MPS daemon runs; on a CPU the number of threads, and
the memory of the process where its cgroup (version 2) is delegated to this user.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from eipack.threads import usable_cores

if TYPE_CHECKING:
    from eipack.target import Target
    from eipack_eia.sizes import SliceSize

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OF_PROCESS_BYTES: Final = 2_000_000_000
"""What PyTorch and this server take for themselves, on top of the slice's models."""


def enforce(size: SliceSize, target: Target, name: str, workers: int = 1) -> Mapping[str, Any]:
    """Set the limits that can be set, and say of each how it is held or why it is not.

    On a CPU the `workers` calls that may run at once share the cores.
    """
    if target.device == "cuda":
        return _on_cuda(size, target.ordinal or 0)
    if target.device == "cpu":
        return _on_cpu(size, name, workers)
    return {"memory": "accounting at admission", "compute": "not enforced on this device"}


def _on_cuda(size: SliceSize, ordinal: int) -> dict[str, Any]:
    import torch

    total = torch.cuda.get_device_properties(ordinal).total_memory
    fraction = min(1.0, size.memory_bytes / total)
    torch.cuda.set_per_process_memory_fraction(fraction, ordinal)
    share = os.environ.get("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE")
    if share and mps_runs():
        compute = f"{share} % of the threads, by MPS"
    elif size.compute_share is None:
        compute = "none was asked for"
    else:
        compute = "not enforced, since no MPS daemon runs"
    memory = f"accounting at admission, and {fraction:.3f} of the device by PyTorch's allocator"
    return {"memory": memory, "memory_bytes": int(fraction * total), "compute": compute}


def mps_runs() -> bool:
    """Tell whether the control pipe of an MPS daemon is there."""
    folder = os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")  # noqa: S108 - its default
    return (Path(folder) / "control").exists()


def environment_for(size: SliceSize, target: Target) -> dict[str, str]:
    """Return what must be in the environment before the process of a slice starts."""
    if target.device != "cuda" or size.compute_share is None or not mps_runs():
        return {}
    return {
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": f"{size.compute_share * 100:g}",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"{target.ordinal or 0}={size.memory_bytes >> 20}M",
    }


def _on_cpu(size: SliceSize, name: str, workers: int) -> dict[str, Any]:
    import torch

    there = usable_cores()
    share = 1.0 if size.compute_share is None else size.compute_share
    threads = max(1, round(there * share / workers))
    if threads < torch.get_num_threads():
        torch.set_num_threads(threads)
    compute = "none was asked for"
    if size.compute_share is not None:
        compute = f"{threads} of {there} threads for each call"
    limit = size.memory_bytes + _OF_PROCESS_BYTES
    held = _hold_memory(name, limit)
    memory = "accounting at admission"
    found: dict[str, Any] = {"compute": compute, "threads": torch.get_num_threads()}
    if held is None:
        return found | {
            "memory": f"{memory}, and {limit} bytes for the process, by its cgroup",
            "memory_bytes": limit,
        }
    return found | {"memory": f"{memory}; the process is not held: {held}"}


def _hold_memory(name: str, limit: int) -> str | None:
    """Move this process into a cgroup with a limit; None if that worked, else the reason."""
    try:
        own = Path("/proc/self/cgroup").read_text(encoding="ascii").strip()
    except OSError as error:
        return f"there are no cgroups ({error.strerror})"
    hierarchy, _, path = own.rpartition("::")
    if hierarchy != "0" or "\n" in own:
        return "cgroups are not of version 2"
    parent = _CGROUPS / path.strip("/")
    try:
        if "memory" not in (parent / "cgroup.subtree_control").read_text(encoding="ascii").split():
            return "the memory controller is not delegated to this user"
        group = parent / name
        group.mkdir(exist_ok=True)
        (group / "memory.max").write_text(str(limit), encoding="ascii")
        (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    except OSError as error:
        return f"its cgroup is not delegated to this user ({error.strerror})"
    return None
