"""`eipack verify`: is a package whole, and signed by somebody trusted?"""

from __future__ import annotations

from pathlib import Path

import click

from eipack.cli.arguments import FILE, as_json, example, package_file
from eipack.cli.printing import print_json


@click.command(epilog=example("eipack verify resnet18.eipack"))
@package_file
@click.option(
    "--trust",
    "pems",
    type=FILE,
    multiple=True,
    metavar="KEY.pem",
    help="Accept this public key alone (repeatable), whatever else is trusted.",
)
@as_json
def verify(file: Path, pems: tuple[Path, ...], as_json: bool) -> None:
    """Check the signing and every digest of a package.

    Exits with 1 if a byte differs, or nobody trusted has signed it.
    """
    import eipack

    key = eipack.verify(file, trust=list(pems) or None)
    if as_json:
        print_json({"path": str(file), "key_id": key.key_id, "label": key.label})
        return
    click.echo(f"{file}: whole, and signed by {key.label or 'a trusted key'} ({key.key_id})")
