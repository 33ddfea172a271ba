"""The reference page of the command line, written from the commands themselves.

`python -m eipack.cli.reference > docs/reference/cli.md` renews it; a test holds them equal.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

_HEAD = """# Command line

<!-- Written by `python -m eipack.cli.reference`; edit the commands' own help instead. -->

Every command has `--help` with an example, and `--json` where a program could read what it
prints. It exits with 0 when it is done, 1 when it failed, 2 when it was used wrongly and 130 when
it was interrupted. An error is one line on stderr that says what is wrong, where and what to do
next; `--debug` adds the traceback. Progress is shown on a terminal only, and `NO_COLOR=1` turns
colours off.

A *model source* is `torchvision:NAME`, `transformers:NAME` (a model id or a local folder),
`package.module:callable` (called without arguments, and searched in the current folder too), or a
`.pt` (TorchScript) or `.pt2` (torch.export) file. Models are put into eval mode. `transformers`
models keep a head for classification, question answering or multiple choice; language models are
packaged as their base model, without a cache.

An *input* is a `.npz` or `.safetensors` file that names tensors as the model's parameters, a text
for the package's tokenizer, or a shape to fill at random: `x=1x3x224x224:float32`. Integers
are drawn from 0 and 1 unless `--spec` says otherwise.

Plugins may [add commands](../howto/plugins-cli.md).
"""


def reference() -> str:
    """Return the page as Markdown."""
    from eipack.cli.root import root

    ctx = click.Context(root, info_name="eipack")
    from eipack.cli import root as module

    parts = [_HEAD]
    for name in module.BUILT_IN:
        command = root.get_command(ctx, name)
        if command is not None:
            parts += _command(command, name, ctx, level=2)
    return "\n".join(parts)


def _command(command: click.Command, name: str, parent: click.Context, level: int) -> Iterator[str]:
    ctx = click.Context(command, info_name=name, parent=parent)
    yield f"{'#' * level} `{ctx.command_path}`\n"
    usage = " ".join(command.collect_usage_pieces(ctx))
    yield f"```text\n{ctx.command_path} {usage}\n```\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    yield from _example(command.epilog or "")
    options = [param for param in command.get_params(ctx) if isinstance(param, click.Option)]
    rows = [_row(ctx, option) for option in options if not {"--help", "--debug"} & {*option.opts}]
    if rows:
        yield "| option | |\n| --- | --- |"
        yield "\n".join(rows) + "\n"
    for child_name, child in getattr(command, "commands", {}).items():
        yield from _command(child, child_name, ctx, level + 1)


def _example(epilog: str) -> Iterator[str]:
    """Turn what `arguments.example` made into Markdown."""
    if epilog:
        _, title, *lines = epilog.splitlines()
        yield f"{title}\n\n```text\n" + inspect.cleandoc("\n".join(lines)) + "\n```\n"


def _row(ctx: click.Context, option: click.Option) -> str:
    found = option.get_help_record(ctx)
    names, text = found or (" / ".join(option.opts), "")
    escaped = re.sub(r"\|", r"\\|", names), re.sub(r"\|", r"\\|", text)
    return f"| `{escaped[0]}` | {escaped[1]} |"


if __name__ == "__main__":
    click.echo(reference(), nl=False)
