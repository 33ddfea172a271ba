"""`eipack eia`: serve an accelerator, and attach those of others."""

from __future__ import annotations

import click

from eipack.cli.arguments import example
from eipack_eia.cli_attached import attach, describe_accelerators, detach, reorder
from eipack_eia.cli_serve import serve


@click.group(
    epilog=example(
        "eipack eia serve --on cpu",
        "eipack eia attach 127.0.0.1:8470",
        "eipack run resnet18.eipack --target eia:0",
    )
)
def eia() -> None:
    """Serve slices of accelerators, and attach them to this host as eia:0, eia:1 and so on."""


for _command in (serve, attach, detach, reorder, describe_accelerators):
    eia.add_command(_command)
