"""`eipack diff`: in what two packages differ, by their manifests alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eipack.cli.arguments import FILE, as_json, example
from eipack.cli.printing import plural, print_facts, print_json, size_text

if TYPE_CHECKING:
    from eipack.package.difference import Difference

_SHOWN = 10


@click.command(epilog=example("eipack diff resnet18.eipack resnet18-finetuned.eipack"))
@click.argument("a", type=FILE)
@click.argument("b", type=FILE)
@as_json
def diff(a: Path, b: Path, as_json: bool) -> None:
    """Say in what package B differs from package A.

    Compares signature, programs, weights tensor by tensor, evidence and all else. Nothing is
    loaded, so no trust is needed; the digests are those that the manifests give (`eipack verify`
    checks them).
    """
    import eipack

    found = eipack.diff(a, b)
    if as_json:
        from attrs import asdict

        print_json({**asdict(found), "same": found.same})
        return
    lines = list(_lines(found))
    if found.same:
        lines.insert(0, ("same", "nothing differs but, perhaps, who signed"))
    print_facts(lines)


def _lines(found: Difference) -> Iterator[tuple[str, str]]:
    for part in ("model", "signature", "programs"):
        for change in getattr(found, part):
            yield part, str(change)
    weights = found.weights
    yield "weights", f"{plural(weights.equal, 'tensor')} equal ({size_text(weights.equal_bytes)})"
    changes = [str(change) for change in weights.changed]
    changes += [f"added {tensor}" for tensor in weights.added]
    changes += [f"removed {tensor}" for tensor in weights.removed]
    for text in changes[:_SHOWN]:
        yield "weights", text
    if len(changes) > _SHOWN:
        yield "weights", f"and {plural(len(changes) - _SHOWN, 'more change')}; --json lists all"
    for part in ("evidence", "assets", "samples", "environment", "signers"):
        for change in getattr(found, part):
            yield part, str(change)
