"""`eipack sign`: vouch for a package with one's own key."""

from __future__ import annotations

from pathlib import Path

import click

from eipack.cli.arguments import as_json, example, package_file
from eipack.cli.printing import print_json


@click.command(epilog=example("eipack sign resnet18.eipack"))
@package_file
@as_json
def sign(file: Path, as_json: bool) -> None:
    """Add this user's signing to a package.

    The key is EIPACK_SIGNING_KEY, or the one made for this user at first use. Signing says that
    you trust where the package comes from: every digest is verified first, its origin is not.
    """
    import eipack

    key = eipack.sign(file)
    if as_json:
        print_json({"path": str(file), "key_id": key.key_id})
        return
    click.echo(f"{file}: signed by {key.key_id}")
