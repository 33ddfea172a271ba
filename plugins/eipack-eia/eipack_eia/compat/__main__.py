"""`python -m eipack_eia.compat script.py [args]`."""

from __future__ import annotations

import runpy
import sys
import traceback
from pathlib import Path

import click

import eipack_eia.compat
from eipack.errors import EipackError


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--debug", is_flag=True, help="Show a traceback where eipack fails.")
@click.argument("script", type=click.Path(exists=True, dir_okay=False))
@click.argument("arguments", metavar="[ARGUMENTS]...", nargs=-1, type=click.UNPROCESSED)
def main(script: str, arguments: tuple[str, ...], *, debug: bool) -> None:
    r"""Run a SCRIPT written for Elastic Inference on the attached accelerators.

    \b
    Example:
      python -m eipack_eia.compat gpt_benchmark.py --calls 1000
    """
    eipack_eia.compat.install()
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).resolve().parent)
    try:
        runpy.run_path(script, run_name="__main__")
    except EipackError as error:
        if debug:
            raise
        said = " ".join(str(error).split())
        click.echo(f"eipack: error: {_place(error, script)}{said}", err=True)
        sys.exit(1)


def _place(error: BaseException, script: str) -> str:
    """Name the line of the script that the error came from."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == script
    ]
    return f"{script}, line {lines[-1]}: " if lines else ""


if __name__ == "__main__":
    main(prog_name="python -m eipack_eia.compat")
