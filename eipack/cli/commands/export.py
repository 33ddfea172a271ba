"""`eipack export`: from a model to a package."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

import click

from eipack.cli.arguments import FILE, TargetType, as_json, example, refuse_overwriting
from eipack.cli.inputs import Given, InputType, TextInput, check_together, example_inputs
from eipack.cli.options import Dynamic, DynamicType, PairType, SpecType, dynamic_shapes, unique
from eipack.cli.printing import note, plural, print_json, size_text
from eipack.cli.progress import stages
from eipack.cli.sources import Built, Recipe, build
from eipack.errors import ExampleInputsRequired

if TYPE_CHECKING:
    from eipack.package import Package
    from eipack.target import Target


@click.command(
    epilog=example(
        "eipack export torchvision:resnet18 --weights none --dynamic x:0=batch:1:8",
        'eipack export transformers:openai-gpt --input "PyTorch is a Deep Learning Framework"',
        "eipack export mymodule:build_model --input x=1x3x224x224 -o mine.eipack",
    )
)
@click.argument("model")
@click.option("-o", "--output", type=FILE, help="The file to write; by default NAME.eipack here.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="METHOD",
    help="How to capture: auto, export, trace or script (repeatable). By default auto.",
)
@click.option(
    "--program",
    "programs",
    multiple=True,
    metavar="KIND",
    help="Which kinds to hold: torchscript, exported, onnx (repeatable).",
)
@click.option(
    "--target",
    "targets",
    type=TargetType(),
    multiple=True,
    metavar="TARGET",
    help="What the package must be ready for, as cpu or cuda:0 (repeatable).",
)
@click.option(
    "--input",
    "given",
    type=InputType(),
    multiple=True,
    metavar="INPUT",
    help="Example inputs: a .npz or .safetensors file, a text, or shapes as "
    "x=1x3x224x224:float32 (repeatable). By default the model's own.",
)
@click.option(
    "--dynamic",
    type=DynamicType(),
    multiple=True,
    metavar="NAME:AXIS=DIM:MIN:MAX",
    help="An axis that varies, as x:0=batch:1:64 (repeatable).",
)
@click.option(
    "--spec",
    "specs",
    type=SpecType(),
    multiple=True,
    metavar="NAME=VALUES",
    help="What an input accepts, as ids=0:40477 or flag=0,1 (repeatable).",
)
@click.option(
    "--allow-traced-branches",
    is_flag=True,
    help="Accept a trace that depends on sizes; the package then holds for those that were tested.",
)
@click.option(
    "--asset",
    "assets",
    type=PairType("ROLE=PATH"),
    multiple=True,
    metavar="ROLE=PATH",
    help="A file or folder to pack, as labels=labels.json (repeatable).",
)
@click.option("--name", help="The model's name; by default the source's.")
@click.option("--package-version", metavar="VERSION", help="The model's version.")
@click.option(
    "--weights",
    metavar="WHICH",
    help="none: random, the same each time; default: pretrained; or a FILE with a state dict.",
)
@click.option(
    "--config",
    type=PairType("KEY=VALUE", parse=True),
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the model, as n_layer=2 (repeatable).",
)
@as_json
def export(
    model: str,
    output: Path | None,
    force: bool,
    methods: tuple[str, ...],
    programs: tuple[str, ...],
    targets: tuple[Target, ...],
    given: tuple[Given, ...],
    dynamic: tuple[Dynamic, ...],
    specs: tuple[tuple[str, Any], ...],
    allow_traced_branches: bool,
    assets: tuple[tuple[str, str], ...],
    name: str | None,
    package_version: str | None,
    weights: str | None,
    config: tuple[tuple[str, Any], ...],
    as_json: bool,
) -> None:
    """Package a model, once its programs are shown to agree with it.

    MODEL is torchvision:NAME, transformers:NAME (a model id or a local folder),
    package.module:callable (called without arguments; the current folder is searched too), or
    a .pt (TorchScript) or .pt2 (torch.export) file. Naming a module or a file trusts its code.
    """
    recipe = Recipe.parse(model, weights, unique(config, "--config"))
    check_together(given)
    values, files = unique(specs, "--spec"), unique(assets, "--asset")
    target = output or Path(f"{_file_name(name or recipe.title)}.eipack")
    refuse_overwriting(target, force=force)
    with stages("loading libraries") as stage:
        import eipack

        stage(f"building {model}{' (downloads what is missing)' if recipe.fetches else ''}")
        built = build(recipe)
        with eipack.export(
            built.model,
            _inputs(recipe, built, given, values),
            method=methods or "auto",
            target=targets or None,
            programs=programs or None,
            dynamic_shapes=dynamic_shapes(dynamic),
            input_specs=values or None,
            allow_traced_branches=allow_traced_branches,
            assets=_assets(built, files),
            name=name or recipe.title,
            version=package_version,
            progress=stage,
        ) as package:
            stage(f"saving {target}")
            package.save(target)
    if built.remark and not as_json:
        note(f"{built.remark}; packaged without it")
    with eipack.open(target) as saved:
        _tell(saved, as_json=as_json)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "model"


def _inputs(
    recipe: Recipe, built: Built, given: tuple[Given, ...], specs: Mapping[str, Any]
) -> Any:
    forward = getattr(built.model, "forward", None)
    if not given and isinstance(forward, MethodType):
        _require_own_examples(recipe.name, built.model, forward)
    accepted = None
    if given and isinstance(given[0], TextInput):
        if built.tokenizer is None and built.remark:
            raise ExampleInputsRequired(
                f"{built.remark}, so it cannot read a text; give token ids as a file, or a shape "
                "such as --input input_ids=1x7:int64"
            )
        accepted = set(inspect.signature(forward).parameters) if forward else None
    return example_inputs(given, built.tokenizer, specs, accepted)


def _require_own_examples(name: str, model: Any, forward: MethodType) -> None:
    from eipack.capture.examples import derive

    try:
        derive(model)
    except ExampleInputsRequired as error:
        parameters = inspect.signature(forward).parameters.values()
        needed = [str(one.name) for one in parameters if one.default is one.empty]
        raise ExampleInputsRequired(
            f"{name} brings no example inputs; say what one call gets, by an --input "
            f"NAME=FILE or NAME=SHAPE for each of: {', '.join(needed)}"
        ) from error


def _assets(built: Built, files: Mapping[str, str]) -> dict[str, Any]:
    assets: dict[str, Any] = {}
    if built.tokenizer is not None:
        assets["tokenizer"] = built.tokenizer
    if built.labels is not None:
        assets["labels"] = built.labels
    return {**assets, **{role: Path(path) for role, path in files.items()}}


def _tell(package: Package, *, as_json: bool) -> None:
    checks = sum(len(evidence.checks) for evidence in package.manifest.evidence)
    if as_json:
        programs = [
            {"id": p.id, "kind": p.kind, "method": p.method, "target": p.target}
            for p in package.programs
        ]
        print_json(
            {
                "path": package.path,
                "size_bytes": package.size,
                "name": package.name,
                "version": package.version,
                "programs": programs,
                "checks": checks,
                "narrowed": list(package.manifest.narrowed),
            }
        )
        return
    held = ", ".join(f"{program.id} (by {program.method})" for program in package.programs)
    click.echo(
        f"{package.path}: {size_text(package.size)}, {held}, {plural(checks, 'check')} passed"
    )
    if package.manifest.narrowed:
        note(f"narrowed to what was tested: {', '.join(package.manifest.narrowed)}")
