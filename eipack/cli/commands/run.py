"""`eipack run`: one call of a package, on the target asked for."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eipack.cli.arguments import (
    FILE,
    TargetType,
    as_json,
    example,
    package_file,
    refuse_overwriting,
)
from eipack.cli.engine import EngineOption, asked, engine_options
from eipack.cli.inputs import (
    Given,
    InputType,
    TextInput,
    call_inputs,
    check_together,
    write_tensors,
)
from eipack.cli.printing import print_facts, print_json
from eipack.cli.progress import stages
from eipack.errors import DependencyMissing, MalformedPackage

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.package import Package
    from eipack.session import Session
    from eipack.target import Target

_BEST = 5


@click.command(
    epilog=example(
        "eipack run resnet18.eipack",
        'eipack run gpt.eipack --target cuda:0 --input "PyTorch is a Deep Learning Framework"',
    )
)
@package_file
@click.option("--target", type=TargetType(), metavar="TARGET", help="Where to run; by default cpu.")
@click.option(
    "--program",
    metavar="PROGRAM",
    help="Which program: its id, kind or method; by default the target's choice.",
)
@click.option(
    "--input",
    "given",
    type=InputType(),
    multiple=True,
    metavar="INPUT",
    help="A .npz or .safetensors file, a text (the package needs a tokenizer), or shapes to fill "
    "at random as x=1x3x224x224 (repeatable). By default the package's own samples.",
)
@click.option(
    "-o", "--output", type=FILE, help="Write the outputs to this .npz or .safetensors file."
)
@click.option("--force", is_flag=True, help="Replace the output file if it is there.")
@engine_options
@as_json
def run(
    file: Path,
    target: Target | None,
    program: str | None,
    given: tuple[Given, ...],
    output: Path | None,
    force: bool,
    precision: str,
    threads: int | None,
    of_engine: tuple[EngineOption, ...],
    as_json: bool,
) -> None:
    """Run a package once and show what comes out."""
    check_together(given)
    if output is not None and output.suffix not in (".npz", ".safetensors"):
        raise click.BadParameter("write a .npz or .safetensors file", param_hint="--output")
    if output is not None:
        refuse_overwriting(output, force=force)
    with stages("loading libraries") as stage:
        import eipack
        from eipack.tree import flatten

        stage(f"loading {file}")
        more = asked(precision, threads, of_engine)
        with eipack.load(file, target, program=program, **more) as session:
            stage("running")
            leaves = _leaves(session, given)
            args, kwargs = session.signature.nest(leaves)
            outputs = flatten(session.signature.output_tree, session(*args, **kwargs))
            names = [spec.name for spec in session.signature.outputs]
            named = dict(zip(names, outputs, strict=True))
            best = _best(session.package, named)
    if output is not None:
        write_tensors(named, output)
    _tell(session, given, named, best, as_json=as_json, output=output)


def _leaves(session: Session, given: Sequence[Given]) -> Sequence[Tensor]:
    tokenizer = None
    if given and isinstance(given[0], TextInput):
        tokenizer = _tokenizer(session.package)
    leaves = call_inputs(given, session.signature, tokenizer)
    return session.package.samples()[0] if leaves is None else leaves


def _tokenizer(package: Package) -> Any:
    """Load the tokenizer of a package whose trust the session has checked; None without one."""
    if "tokenizer" not in package.manifest.assets:
        return None
    try:
        from transformers import AutoTokenizer
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            'text needs transformers; try: pip install "eipack[text]"'
        ) from error
    with tempfile.TemporaryDirectory(prefix="eipack-") as folder:
        package.unpack_asset("tokenizer", folder)
        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            raise MalformedPackage(
                f"the tokenizer of {package.path} cannot be used: {said}"
            ) from error


def _class_names(package: Package) -> list[str]:
    files = list(package.asset_files("labels").values())
    if len(files) != 1:
        return []
    text = package.asset(files[0]).decode(errors="replace")
    try:
        found = json.loads(text)
    except ValueError:
        return text.splitlines()
    return [str(label) for label in found] if isinstance(found, list) else []


def _best(package: Package, outputs: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Name the most likely classes, where an output is as wide as the labels are many."""
    labels = _class_names(package)
    for tensor in outputs.values():
        rows = tensor[None] if tensor.dim() == 1 else tensor
        if rows.dim() == 2 and rows.shape[-1] == len(labels) and rows.is_floating_point():
            chances = rows[0].float().softmax(-1)
            top = chances.topk(min(_BEST, len(labels)))
            found = zip(top.values.tolist(), top.indices.tolist(), strict=True)
            return [{"label": labels[i], "index": i, "softmax": chance} for chance, i in found]
    return []


def _tell(
    session: Session,
    given: Sequence[Given],
    outputs: Mapping[str, Tensor],
    best: list[dict[str, Any]],
    *,
    as_json: bool,
    output: Path | None,
) -> None:
    described = [_describe(name, tensor) for name, tensor in outputs.items()]
    if as_json:
        print_json(
            {
                "target": str(session.target),
                "program": session.program.id,
                "loss": None if session.info.loss is None else session.info.loss.relative,
                "outputs": described,
                "best": best,
                "output": None if output is None else str(output),
            }
        )
        return
    facts = [("ran", f"{session.program.id} on {session.target}")]
    if session.info.loss is not None:
        facts.append(("loss", str(session.info.loss)))
    if not given:
        facts.append(("input", "the package's own samples"))
    facts += [("output", _line(one)) for one in described]
    facts += [("best", f"{one['softmax']:6.1%}  {one['label']}") for one in best]
    if output is not None:
        facts.append(("written", str(output)))
    print_facts(facts)


def _describe(name: str, tensor: Tensor) -> dict[str, Any]:
    values = tensor.detach().double() if not tensor.is_complex() else tensor.abs().double()
    finite = values[values.isfinite()]
    some = finite.numel() > 0
    return {
        "name": name,
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "min": float(finite.min()) if some else None,
        "mean": float(finite.mean()) if some else None,
        "max": float(finite.max()) if some else None,
        "not_finite": int(values.numel() - finite.numel()),
    }


def _line(one: Mapping[str, Any]) -> str:
    shape = ", ".join(map(str, one["shape"]))
    text = f"{one['name']}: {one['dtype']}[{shape}]"
    if one["min"] is not None:
        text += f"  min {one['min']:.4g}, mean {one['mean']:.4g}, max {one['max']:.4g}"
    if one["not_finite"]:
        text += f", {one['not_finite']} not finite"
    return text
