"""The processor of this machine: its name, its instruction sets, and itself as a device."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from eipack.archive import digest_bytes
from eipack.backend import Device
from eipack.target import Target


def host(engine: str | None = None, trouble: str = "") -> Device:
    """Describe the host's processor under an engine; `memory_bytes` is all of the host's.

    It is unhealthy if there is `trouble`.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0))
    name = f"{platform.machine()}, {cores} core{'s' if cores != 1 else ''}"
    return Device(Target("cpu", engine), name, not trouble, memory, trouble)


@cache
def instruction_sets() -> frozenset[str]:
    """Return the processor's features as the kernel lists them; none where it lists none."""
    return frozenset(word for line in _lines("flags", "Features") for word in line.split())


@cache
def instructions_digest() -> str:
    """Return a short name for all of the processor's features together, for caches and records."""
    return digest_bytes(" ".join(sorted(instruction_sets())).encode())[-16:]


@cache
def model_name() -> str:
    """Return the processor's name, or the architecture where it has none."""
    return next((line.strip() for line in _lines("model name")), platform.machine())


def _lines(*keys: str) -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    pairs = (line.partition(":") for line in text.splitlines())
    return [value for key, _, value in pairs if key.strip() in keys]
