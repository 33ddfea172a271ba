"""`eipack compile`: native programs for a package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from eipack.cli.arguments import (
    FILE,
    TargetType,
    as_json,
    example,
    package_file,
    refuse_overwriting,
)
from eipack.cli.printing import print_json, size_text
from eipack.cli.progress import stages

if TYPE_CHECKING:
    from eipack.target import Target


@click.command(
    epilog=example(
        "eipack compile resnet18.eipack --target cpu+inductor -o native.eipack",
        "eipack compile resnet18.eipack --target cuda+inductor:0 -o resnet18.eipack --force",
    )
)
@package_file
@click.option(
    "--target",
    "targets",
    type=TargetType(),
    multiple=True,
    required=True,
    metavar="TARGET",
    help="What to compile for, as cpu+inductor (repeatable).",
)
@click.option("-o", "--output", type=FILE, required=True, help="The file to write.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@as_json
def compile(
    file: Path, targets: tuple[Target, ...], output: Path, force: bool, as_json: bool
) -> None:
    """Add programs compiled for targets of this machine.

    The portable programs stay, so that the package still opens everywhere. Each compiled program
    is checked against the package's samples and fresh inputs before anything is written; the new
    file is signed with your key, and the package must be trusted, since its programs run.
    """
    refuse_overwriting(output, force=force)
    with stages("loading libraries") as stage:
        import eipack

        eipack.compile(file, targets, output, progress=stage)
    with eipack.open(output) as package:
        wanted = {str(target) for target in targets}
        made = [one for one in package.programs if one.target in wanted]
        if as_json:
            told = [{"id": one.id, "kind": one.kind, "target": one.target} for one in made]
            print_json({"path": str(output), "size_bytes": package.size, "compiled": told})
            return
        for one in made:
            click.echo(
                f"{output}: {one.id} for {one.target}, {size_text(one.own_bytes)} its own, "
                f"{size_text(one.shared_bytes)} shared"
            )
