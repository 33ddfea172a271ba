"""What a session is: where it runs, by which program, and that it answers as it should."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from eipack.errors import ParityFailed

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.session import Session

_SIZE: Final = re.compile(r"(\S+) (?:on|at) ")
"""How the name of an attached accelerator begins: `eia2.medium on a processor at an address`."""


def origin_of(session: Session, leaves: Sequence[Tensor]) -> dict[str, Any]:
    """Say what a session runs, where, and with what, in plain values."""
    import torch

    from eipack.measuring.environment import manifest_digest

    device = _device(session)
    info = session.info
    return {
        "ran_on": str(session.target),
        "device": device,
        "accelerator": size_of(device) if session.target.device == "eia" else None,
        "program": session.program.id,
        "kind": session.program.kind,
        "method": session.program.method,
        "threads": info.threads,
        "loss": None if info.loss is None else info.loss.relative,
        "digest": manifest_digest(session.package),
        "input_bytes": sum(leaf.numel() * leaf.element_size() for leaf in leaves),
        "torch": str(torch.__version__),
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if session.target.device == "cuda" else None,
    }


def size_of(name: str) -> str | None:
    """Return the size of an attached accelerator by its name; None where nobody has said it."""
    found = _SIZE.match(name)
    return None if found is None or found[1] == "unknown" else found[1]


def _device(session: Session) -> str:
    from eipack.registry import backend

    there = backend(session.target).devices()
    return {device.target: device.name for device in there}.get(session.target, "")


def hold(session: Session) -> None:
    """Hold a session's outputs for the package's samples to those that it recorded.

    Raises:
        ParityFailed: One differs by more than the published tolerance.
    """
    from eipack.parity.tolerance import compare

    inputs, expected = session.package.samples()
    actual = session.run_flat(*inputs)
    for spec, want, got in zip(session.signature.outputs, expected, actual, strict=True):
        difference = compare(want, got)
        if not difference.agrees:
            reason = difference.reason or f"it differs by {difference.max_abs:.3g}"
            raise ParityFailed(
                f"output {spec.name!r} of {session.program.id} on {session.target} is not the "
                f"recorded one: {reason}",
                output=spec.name,
                max_abs=difference.max_abs,
            )
