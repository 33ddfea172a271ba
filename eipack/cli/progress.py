"""Progress on a terminal, and silence in a pipe; always on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eipack.cli.printing import console

Stage = Callable[[str], None]


@contextmanager
def stages(first: str) -> Iterator[Stage]:
    """Give a function that shows the current stage beside a spinner."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with console(err=True).status(first) as status:
        yield status.update


@contextmanager
def counting(title: str) -> Iterator[Callable[[int, int], None] | None]:
    """Give a function that shows how many of all calls are made, on a bar; None in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(err=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
