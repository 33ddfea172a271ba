"""`eipack extract`: a program as a file of its own."""

from __future__ import annotations

from pathlib import Path

import click

from eipack.cli.arguments import FILE, as_json, example, package_file, refuse_overwriting
from eipack.cli.printing import print_json, printable, size_text
from eipack.cli.progress import stages


@click.command(
    epilog=example("eipack extract resnet18.eipack --program torchscript -o resnet18.pt")
)
@package_file
@click.option(
    "--program",
    required=True,
    metavar="PROGRAM",
    help="Which program: its id, kind (torchscript, exported, onnx) or method.",
)
@click.option("-o", "--output", type=FILE, required=True, help="The file to write.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@as_json
def extract(file: Path, program: str, output: Path, force: bool, as_json: bool) -> None:
    """Write one program as a file that needs no eipack.

    A torchscript program is for torch.jit.load (also without Python), an exported one for
    torch.export.load, an onnx one for ONNX tools. The package must be trusted.
    """
    import eipack

    refuse_overwriting(output, force=force)
    with stages("verifying and extracting"), eipack.open(file) as package:
        record = package.program(program)
        written = package.extract(program, output)
    size = written.stat().st_size
    if as_json:
        print_json({"path": str(written), "program": record.id, "size_bytes": size})
        return
    made = printable(f"{record.kind} program by {record.method}")
    click.echo(f"{written}: {made}, {size_text(size)}")
