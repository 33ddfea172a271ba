"""`eipack demo`: the whole journey on this machine, by the commands that anybody can type."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

import click

from eipack.cli.arguments import FILE, example
from eipack.cli.demo_accelerator import accelerator
from eipack.cli.printing import console, size_text
from eipack.errors import PackageIOError

_RESNET: Final = "torchvision:resnet18 --weights none --method trace --method script"
_GPT: Final = (
    "transformers:openai-gpt --weights none --input input_ids=1x7:int64 --program torchscript"
)


_OWN = {
    *("resnet18.eipack", "resnet18.json", "resnet18.pt"),
    *("openai-gpt.eipack", "openai-gpt.json", "latency.png", "cost.png"),
}
"""What a demo, or the commands it proposes, leaves in its folder."""


@click.command(epilog=example("eipack demo --folder demo --calls 200"))
@click.option(
    "--folder", type=FILE, default=Path("demo"), show_default=True, help="Where to write."
)
@click.option(
    "--calls",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="How many calls to measure for each program and target.",
)
@click.pass_context
def demo(ctx: click.Context, folder: Path, calls: int) -> None:
    """Package, run, measure and price two models here.

    They are ResNet-18 of torchvision and OpenAI GPT of transformers. Nothing is downloaded: the
    weights are random, on which neither the commands nor the times depend. Takes a minute and a
    half and 600 MB on two idle cores; every command is shown as you would type it.
    """
    began = perf_counter()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = sorted({path.name for path in folder.iterdir()} - _OWN)
    except OSError as error:
        raise PackageIOError(f"cannot make the folder {folder}: {error.strerror}") from error
    if foreign:
        raise PackageIOError(
            f"{folder} holds {foreign[0]}, which no demo wrote; choose another --folder"
        )
    resnet, gpt = folder / "resnet18.eipack", folder / "openai-gpt.eipack"
    _say("One model, one file, any target", style="bold")
    _say(
        "Two models from the libraries that are installed, with random weights (nothing is "
        "downloaded)."
    )
    _say("\nPackage them: each program must agree with the model before anything is written")
    _do(ctx, "export", *shlex.split(_RESNET), "--force", "-o", resnet)
    _do(ctx, "export", *shlex.split(_GPT), "--force", "-o", gpt)
    _say("\nLook inside, without loading anything")
    _do(ctx, "inspect", resnet)
    _say("\nRun them: signing and digests are verified first")
    _do(ctx, "run", resnet)
    _do(ctx, "run", gpt)
    targets = local_targets()
    no_gpu = len(targets) == 1
    _say("\nLend a slice of this processor to other processes, and attach it")
    with accelerator(lambda *words: _do(ctx, *words), _say) as attached:
        if attached is None:
            _say("(no plugin for it is installed, or the environment lists other accelerators)")
        else:
            targets.append(attached)
        places = [word for target in targets for word in ("--target", target)]
        _say(f"\nMeasure them on {' and '.join(targets)}, with the package's own samples")
        for package, programs in ((resnet, ("trace", "script")), (gpt, ("torchscript",))):
            chosen = [word for program in programs for word in ("--program", program)]
            report: list[str | Path] = ["--json", package.with_suffix(".json"), "--force"]
            if package is gpt:
                report += ["--plot", folder / "latency.png"]
            _do(ctx, "bench", package, *places, *chosen, "--calls", calls, *report)
        if attached is not None:
            _say("\nLet the accelerator go again")
    if no_gpu:
        _say("This machine has no GPU that torch can see; with one, cuda:0 is measured beside cpu.")
    _advise(ctx, gpt.with_suffix(".json"), folder / "cost.png")
    _close(folder, resnet, perf_counter() - began)


def _advise(ctx: click.Context, report_file: Path, picture: Path) -> None:
    """Price what was measured, as if this machine were one that can be rented."""
    from eipack.cli.demo_advice import ACCELERATOR_USD_PER_HOUR, instance_like_this, limit_of
    from eipack.measuring import Report

    limit_ms = limit_of(Report.from_json(report_file.read_bytes()))
    instance = instance_like_this()
    _say(
        f"\nSay which of them is the cheapest that answers 90 % of calls within {limit_ms:g} ms, "
        f"as if this machine cost what {instance} does, and a slice what it did in 2020"
    )
    prices = f"eia2.medium={ACCELERATOR_USD_PER_HOUR:g}"
    words = ("--instance", instance, "--accelerator-price", prices, "--p90-ms", f"{limit_ms:g}")
    try:
        _do(ctx, "advise", report_file, *words, "--plot", picture, "--force")
    except click.exceptions.Exit:
        _say("(few calls prove little: more of them, with --calls, may decide)")


def local_targets() -> list[str]:
    """Name the processor and the first GPU, as far as they are here."""
    import eipack

    return [
        str(device.target)
        for device in eipack.devices()
        if device.healthy
        and device.target.device in ("cpu", "cuda")
        and device.target.engine is None
        and not device.target.ordinal
    ]


def _say(text: str, style: str = "") -> None:
    console().print(text, style=style or None)


def _do(ctx: click.Context, *words: str | int | Path) -> None:
    """Show a command as one would type it, and do it in this process."""
    from eipack.cli.root import root

    typed = [str(word) for word in words]
    _say(f"$ eipack {shlex.join(typed)}", style="bold green")
    command = root.get_command(ctx, typed[0])
    if command is None:
        raise click.UsageError(f"there is no command {typed[0]!r}")
    with command.make_context(typed[0], typed[1:], parent=ctx) as inner:
        command.invoke(inner)


def _close(folder: Path, resnet: Path, seconds: float) -> None:
    _say(f"\nDone in {seconds:.0f} s; this is what was written:", style="bold")
    for path in sorted(folder.iterdir()):
        if path.name in _OWN:
            _say(f"  {path}  {size_text(path.stat().st_size)}")
    _say("Commands to try next:", style="bold")
    for words in _next(resnet):
        _say(f"  eipack {shlex.join(words)}")


def _next(resnet: Path) -> Sequence[Sequence[str]]:
    out = str(resnet.with_suffix(".pt"))
    return (
        ("extract", str(resnet), "--program", "trace", "-o", out),
        ("export", "torchvision:resnet18", "--weights", "none", "--dynamic", "x:0=batch:1:8"),
        ("diff", str(resnet), "resnet18.eipack"),
        ("trust", "show"),
        ("--help",),
    )
