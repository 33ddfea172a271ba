"""`eipack backends`: which plugins are installed, and how each fares."""

from __future__ import annotations

import click

from eipack.cli.arguments import as_json, example
from eipack.cli.printing import print_json, print_table


@click.command(epilog=example("eipack backends"))
@as_json
def backends(as_json: bool) -> None:
    """List the installed backends, and how each fares.

    A broken one says why, and harms no other.
    """
    from attrs import asdict

    import eipack

    found = eipack.backends()
    if as_json:
        print_json([asdict(info) for info in found])
        return
    print_table(
        ("target", "from", "state", "runs"),
        [
            (
                info.name.replace(".", "+"),
                ", ".join(info.distributions),
                info.status if info.status == "ok" else f"{info.status}: {info.detail}",
                ", ".join(info.kinds),
            )
            for info in found
        ],
    )
