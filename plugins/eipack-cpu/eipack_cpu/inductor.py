"""The `cpu+inductor` target: exported programs, compiled to native code for this processor."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Final

from eipack.backend import Device
from eipack.inductor import InductorBackend
from eipack.processor import host, instruction_sets
from eipack.target import Target

_INSTRUCTIONS: Final = re.compile(
    r"mmx|s?sse|avx|fma|bmi|amx|f16c|abm|popcnt|movbe|aes|sha|gfni|vaes|v?pclmul|adx|rdrand|rdseed"
    r"|movdir|cldemote|clwb|clflushopt|xsave|asimd|sve|sme|bf16|i8mm|fp|crc32|atomics"
)


class CpuInductorBackend(InductorBackend):
    """Serve `cpu+inductor`."""

    device = "cpu"

    def devices(self) -> Sequence[Device]:
        """Return the host's processor."""
        return [host("inductor")]

    def needs(self, target: Target) -> dict[str, str]:
        """Say what a library that is compiled here needs: every instruction set of this CPU."""
        return {**super().needs(target), "isa": instructions()}


@cache
def instructions() -> str:
    """List the instruction sets of this processor that a compiler may use."""
    found = {name for name in instruction_sets() if _INSTRUCTIONS.match(name)}
    return " ".join(sorted(found)) or "unknown"
