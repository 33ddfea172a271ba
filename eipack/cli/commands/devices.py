"""`eipack devices`: what is here to run on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from eipack.cli.arguments import as_json, example
from eipack.cli.printing import note, print_json, print_table, size_text

if TYPE_CHECKING:
    from eipack.backend import Device


@click.command(epilog=example("eipack devices"))
@as_json
def devices(as_json: bool) -> None:
    """List the devices of this machine, healthy or not."""
    import eipack

    found = eipack.devices()
    if as_json:
        print_json([_document(device) for device in found])
        return
    print_table(
        ("target", "device", "memory", "state"),
        [_row(device) for device in found],
        right=("memory",),
    )
    for info in eipack.backends():
        if info.status != "ok":
            note(f"{info.detail} (see: eipack backends)")


def _document(device: Device) -> dict[str, Any]:
    return {
        "target": str(device.target),
        "name": device.name,
        "healthy": device.healthy,
        "memory_bytes": device.memory_bytes,
        "detail": device.detail,
    }


def _row(device: Device) -> tuple[str, ...]:
    memory = "" if device.memory_bytes is None else size_text(device.memory_bytes)
    state = "healthy" if device.healthy else f"not healthy: {device.detail}"
    return str(device.target), device.name, memory, state
