"""What a tuning record holds for: the processor, the cores, the devices and the versions."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata
from re import match
from typing import Final

from attrs import field, frozen

from eipack.archive import digest_bytes
from eipack.processor import instructions_digest, model_name
from eipack.registry import GROUP
from eipack.threads import usable_cores

_ALWAYS: Final = ("eipack", "torch")


@frozen
class Machine:
    """Where a record was made; times hold nowhere else.

    `flags` is a digest of the processor's instruction sets, `cores` are those that the process
    could use, `devices` are the names of the devices by target. `versions` are those of Python,
    torch, eipack, the plugins of the devices and what these require.
    """

    processor: str
    flags: str
    cores: int
    devices: dict[str, str] = field(factory=dict)
    versions: dict[str, str] = field(factory=dict)

    @property
    def mark(self) -> str:
        """A name for the processor and the cores, for files."""
        return digest_bytes(f"{self.processor}|{self.flags}|{self.cores}".encode())[-16:]

    def why_not(self, here: Machine) -> str | None:
        """Say why what was found there does not hold here; None if it does.

        Devices are compared as far as both have them.
        """
        if (self.processor, self.flags, self.cores) != (here.processor, here.flags, here.cores):
            return (
                f"of another machine ({self.processor}, {self.cores} cores; this one is "
                f"{here.processor}, {here.cores} cores)"
            )
        for target in sorted(self.devices.keys() & here.devices):
            if self.devices[target] != here.devices[target]:
                there, now = self.devices[target], here.devices[target]
                return f"of another {target} ({there}; this one is {now})"
        for name in sorted(self.versions.keys() | here.versions):
            before, now = (one.versions.get(name, "none") for one in (self, here))
            if before != now:
                return f"of other versions ({name} {before}; here is {now})"
        return None


def this_machine(devices: tuple[str, ...], names: dict[str, str]) -> Machine:
    """Describe this machine, as far as the targets of some devices depend on it."""
    return Machine(
        model_name(), instructions_digest(), usable_cores(), dict(names), dict(_versions(devices))
    )


@cache
def _versions(devices: tuple[str, ...]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _ALWAYS:
        found[name] = _version(name)
    for point in metadata.entry_points(group=GROUP):
        if point.name.partition(".")[0] in devices and point.dist is not None:
            found[point.dist.name] = point.dist.version
            for requirement in point.dist.requires or ():
                needed = match(r"[\w.-]+", requirement)
                if needed and "extra ==" not in requirement:
                    found[needed[0]] = _version(needed[0])
    return found


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "none"
