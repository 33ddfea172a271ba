"""`eipack serving triton`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eipack.cli.arguments import FILE, TargetType, as_json, example, package_file

if TYPE_CHECKING:
    from eipack.target import Target


@click.command(
    epilog=example(
        "eipack serving triton resnet18.eipack -o models",
        "eipack serving triton resnet18.eipack -o models --backend pytorch",
        "eipack serving triton resnet18.eipack -o models --target eia:0 --name resnet",
    )
)
@package_file
@click.option(
    "-o", "--output", type=FILE, required=True, metavar="FOLDER", help="The model repository."
)
@click.option(
    "--backend",
    type=click.Choice(["python", "pytorch"]),
    default="python",
    show_default=True,
    help="Run the package by eipack in the Python backend, or its TorchScript without eipack.",
)
@click.option("--name", help="The model's name; by default the package's.")
@click.option(
    "--target", type=TargetType(), help="Where the Python backend runs it; cpu if not given."
)
@click.option("--threads", type=click.IntRange(1), help="Threads of a call in the Python backend.")
@click.option(
    "--max-batch",
    type=click.IntRange(0),
    help="Rows of a batch at most; 0 for no batches. By default what was shown to be sound.",
)
@click.option("--trust", type=FILE, multiple=True, help="Public keys to trust (repeatable).")
@as_json
def triton(
    *,
    file: Path,
    output: Path,
    backend: Any,
    name: str | None,
    target: Target | None,
    threads: int | None,
    max_batch: int | None,
    trust: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Write a package as a model into a Triton model repository.

    Names, dtypes and dynamic sizes are those of its signature. Triton makes batches of requests
    only where the package says that rows are independent.
    """
    from eipack_serving.triton import write_repository

    settings = {"target": target, "threads": threads}
    asked = {key: str(value) for key, value in settings.items() if value is not None}
    if asked and backend != "python":
        raise click.UsageError(f"--{next(iter(asked))} is for the Python backend alone")
    written = write_repository(
        file,
        output,
        backend=backend,
        name=name,
        settings=asked,
        max_batch=max_batch,
        trust=list(trust) or None,
    )
    if as_json:
        document = {
            "model": written.name,
            "folder": str(written.folder),
            "backend": written.backend,
            "max_batch_size": written.max_batch_size,
        }
        click.echo(json.dumps(document))
    else:
        batches = f"batches of up to {written.max_batch_size} rows"
        click.echo(
            f"{written.folder}: {written.name} for the {written.backend} backend, "
            f"{batches if written.max_batch_size else 'no batches'}"
        )
