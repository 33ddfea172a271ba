"""`eipack serving`: packages for other serving frameworks."""

from __future__ import annotations

import click

from eipack.cli.arguments import example
from eipack_serving.cli_triton import triton


@click.group(epilog=example("eipack serving triton resnet18.eipack -o models"))
def serving() -> None:
    """Write what other serving frameworks need to serve a package."""


serving.add_command(triton)
