"""How programs enter a run: the package as each of them is given it, and one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from eipack.backend import Precision
from eipack.children import Child, key_files
from eipack.measuring.entrant import PATIENCE_S, Asked, Entrant
from eipack.measuring.given import leaves_of, write_inputs
from eipack.measuring.here import Here, Host
from eipack.measuring.lane import Lane
from eipack.measuring.scenario import Scenario

if TYPE_CHECKING:
    from eipack.measuring.given import Given
    from eipack.package import Package
    from eipack.trust import Trust

_COMPILE_S: Final = 240.0
"""What an engine may take at loading, to compile."""
_BYTES_PER_S: Final = 20e6
_PIECE: Final = 1 << 20


@frozen
class Entering:
    """Start each process and open its session; all of them end with the stack."""

    stack: ExitStack
    asked: Asked
    start: Callable[[], Host]

    def enter(self, entrants: Sequence[Entrant], scenarios: Sequence[Scenario]) -> list[Lane]:
        """Open one after the other, so that none is in another's way, and list their rows.

        Raises:
            EipackError: The package itself is at fault.
        """
        _read_once(Path(self.asked.package))
        for one in entrants:
            self.stack.callback(one.end)
            one.enter(self.start, self.asked, scenarios)
        return [
            Lane(one, number, scenario)
            for one in entrants
            for number, scenario in enumerate(scenarios)
        ]

    def twin(self, lane: Lane) -> Lane:
        """Open what a row measures once more, for an A/A run."""
        entrant = Entrant(lane.entrant.target, lane.entrant.program)
        return self.enter([entrant], [lane.scenario])[0]


def entering(
    package: Package,
    stack: ExitStack,
    folder: Path,
    *,
    inputs: Any,
    batch: Sequence[int],
    trust: Trust,
    session: tuple[Precision, int | None, Mapping[str, Mapping[str, Any]] | None],
    in_process: bool,
) -> Entering:
    """Bring the caller's arguments into the form that a process can be given.

    Raises:
        SignatureMismatch: The inputs, or a size of the batch, do not fit the package.
    """
    precision, threads, options = session
    asked = Asked(
        package=str(Path(package.path).absolute()),
        digest=_digest(package),
        inputs=_given(package, folder, inputs, batch, in_process=in_process),
        trust=trust if in_process else key_files(trust, folder),
        precision=precision,
        threads=threads,
        options=None if options is None else {name: dict(of) for name, of in options.items()},
        load_limit_s=PATIENCE_S + _COMPILE_S + package.size / _BYTES_PER_S,
    )
    start = Here if in_process else lambda: Child("eipack.measuring.child", folder)
    return Entering(stack, asked, start)


def _digest(package: Package) -> str:
    from eipack.measuring.environment import manifest_digest

    return manifest_digest(package)


def _given(
    package: Package, folder: Path, inputs: Any, batch: Sequence[int], *, in_process: bool
) -> Given:
    """Check what the caller gives, and write it to a file for a process of its own."""
    leaves = None if inputs is None else leaves_of(package.signature, inputs)
    if batch:
        from eipack.measuring.batches import resized

        arguments = package.signature.nest(package.samples()[0] if leaves is None else leaves)
        for size in batch:
            resized(package.signature, arguments, size)
    if leaves is None or in_process:
        return leaves
    return write_inputs(folder / "inputs.safetensors", package.signature, leaves)


def _read_once(path: Path) -> None:
    """Let every process find the file in the page cache, not all but the first one."""
    piece = memoryview(bytearray(_PIECE))
    with path.open("rb", buffering=0) as file:
        while file.readinto(piece):
            pass
