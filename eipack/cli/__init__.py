"""The `eipack` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the `eipack` command with the process's arguments, and exit."""
    try:
        import warnings

        # What a library wants to tell developers is noise here; `-W` and PYTHONWARNINGS show it.
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        from eipack.cli.root import root

        root(prog_name="eipack")
    except KeyboardInterrupt:  # while the above was imported, or the interpreter shuts down
        sys.stderr.write("eipack: interrupted\n")
        sys.exit(130)
