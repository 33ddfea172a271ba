"""The `eia` backend: slices of accelerators in other processes or machines, attached by ordinal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eipack.backend import Backend, Device, LoadOptions, Runner
from eipack.kinds import PORTABLE
from eipack.target import Target
from eipack_eia.attached import Attached, visible
from eipack_eia.health import Health, probe

if TYPE_CHECKING:
    from eipack.backend import ProgramReader


class EiaBackend(Backend):
    """Run programs on the accelerators that are attached to this host."""

    device = "eia"
    kinds = ("torchscript", "exported")
    options = frozenset({"deadline_ms", "failover", "retries"})

    def devices(self) -> Sequence[Device]:
        """List the visible accelerators, each asked whether it is there."""
        found = visible()
        return [_device(*pair) for pair in zip(found, probe(found), strict=True)]

    def kinds_at(self, target: Target) -> tuple[str, ...]:
        """Ask the accelerator which kinds it takes, if one is named.

        Raises:
            DeviceNotFound: No accelerator has that ordinal, or it is not healthy.
        """
        if target.ordinal is None:
            return self.kinds
        found = [one for one in visible() if one.ordinal == target.ordinal]
        attached = found[0] if found else self._found(target)
        said = probe([attached])[0].said
        if said is None or said.kinds is None:
            return self.kinds
        return tuple(kind for kind in said.kinds if kind in PORTABLE)

    def _found(self, target: Target) -> Attached:
        place = self.find(target).target
        return next(one for one in visible() if one.ordinal == place.ordinal)

    def load(self, reader: ProgramReader, target: Target, options: LoadOptions) -> Runner:
        """Send the package to the accelerator, unless it has it, and open a session there.

        Raises:
            DeviceNotFound: No accelerator has that ordinal.
            AcceleratorError: It cannot be reached, or does not take the package.
        """
        from eipack_eia.client.runner import RemoteRunner

        found = [one for one in visible() if one.ordinal == target.ordinal]
        attached = found[0] if found else self._found(target)
        return RemoteRunner(reader, attached, options, others=visible)


def _device(attached: Attached, health: Health) -> Device:
    target = Target("eia", ordinal=attached.ordinal)
    said = health.said
    name = f"{attached.type} at {attached.endpoint}"
    if said is not None and said.on:
        name = f"{said.type} on {said.on} at {attached.endpoint}"
    memory = None if said is None else said.memory_bytes
    return Device(target, name, not health.detail, memory, health.detail)
