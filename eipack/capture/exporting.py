"""`eipack.export`: from a model to a package whose programs are proved."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve
from torch import nn

from eipack.capture.examples import distinct
from eipack.capture.making import Maker, Options, Proven
from eipack.capture.plan import Need, plan
from eipack.capture.preserve import preserved, without_cache
from eipack.capture.reference import named_tensors
from eipack.capture.sources import open_reference
from eipack.errors import (
    PackageIOError,
    ParityInputsRequired,
    TargetSyntaxError,
    UnsupportedModel,
)
from eipack.manifest import Evidence, ProgramRecord
from eipack.package import Package
from eipack.package.assembly import Parts, write_package
from eipack.package.assets import Assets, collect
from eipack.pool import Pool
from eipack.signing import signing_key
from eipack.staging import record
from eipack.target import Target

Targets = str | Target | Sequence[str | Target] | None


def export(
    model: Any,
    inputs: Any | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    method: str | Sequence[str] = "auto",
    target: Targets = None,
    programs: str | Sequence[str] | None = None,
    dynamic_shapes: Any | None = None,
    input_specs: Mapping[str, Any] | None = None,
    parity_inputs: Any | None = None,
    allow_traced_branches: bool = False,
    assets: Mapping[str, Any] | None = None,
    name: str | None = None,
    version: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Package:
    """Capture a model, prove each program against it, and package them.

    `model` is a module, a ScriptModule, an ExportedProgram, or the path of a `.pt` or
    `.pt2` file (naming a file trusts it). `inputs` is a tuple of arguments or a dict of
    keywords; without it they come from the model's own `example_input_array`,
    `dummy_inputs`, configured image size or torchvision metadata. A transformers model is
    captured without its cache, unless `kwargs` has `use_cache`. `dynamic_shapes` is as in
    torch.export, for every method. `method` is `auto`, `trace`, `script`, `export` or several;
    `programs` names kinds (`torchscript`, `exported`, `onnx`); `target` says what the package
    must be ready for. `input_specs` maps an input's name to its `low` and `high`, or its
    `values`; `parity_inputs` are the caller's own calls to test with. `assets` maps a role
    (`tokenizer`, `labels`, `license`, …) to a path, bytes, a list of labels, or a tokenizer.

    The model is left as it was. The package lies in a temporary file until it is saved.

    Raises:
        ExampleInputsRequired: There are no example inputs.
        CaptureError: The model cannot be captured, or is no function of its inputs.
        ParityError: A program disagrees with the model, or nothing could be shown.
        MethodConflict: The method cannot give the kinds asked for.
    """
    report = progress or (lambda _: None)
    _require_types(input_specs, parity_inputs, assets, name, version)
    reference, found_name = open_reference(model, inputs, kwargs)
    options = Options(dynamic_shapes, input_specs, parity_inputs, allow_traced_branches)
    found = collect(assets or {})
    targets = _targets(target)
    needs = plan(method, programs, targets, reference.origin)
    methods = frozenset(m for need in needs for request in need for m in request.methods)
    with preserved(reference.module) as snapshot, without_cache(reference):
        maker = Maker(reference, snapshot, options, methods, report)
        proven = _make(maker, needs, targets)
        return _pack(maker, proven, found, name or found_name, version, report)


def _require_types(
    input_specs: Any, parity_inputs: Any, assets: Any, name: Any, version: Any
) -> None:
    for label, value in (("name", name), ("version", version)):
        if value is not None and not isinstance(value, str):
            raise UnsupportedModel(f"{label} is {value!r}; pass a string")
    if assets is not None and not isinstance(assets, Mapping):
        raise UnsupportedModel(f"assets is {assets!r}; pass a dict from role to asset")
    if input_specs is not None and not isinstance(input_specs, Mapping):
        raise ParityInputsRequired(f"input_specs is {input_specs!r}; pass a dict by input name")
    if parity_inputs is not None and not isinstance(parity_inputs, Iterable):
        raise ParityInputsRequired(
            f"parity_inputs is {parity_inputs!r}; pass a list of argument tuples or dicts"
        )


def _targets(target: Targets) -> list[Target]:
    if target is None:
        return []
    if isinstance(target, str | Target):
        return [Target.parse(target)]
    several: Any = target
    if not isinstance(several, Iterable) or not all(isinstance(t, str | Target) for t in several):
        raise TargetSyntaxError(f"target is {target!r}; pass a target as 'cpu', or a list of them")
    return list(dict.fromkeys(Target.parse(one) for one in target))


def _make(maker: Maker, needs: Sequence[Need], targets: Sequence[Target]) -> list[Proven]:
    portable = maker.meet(needs)
    native = []
    for target in targets:
        for one in portable:
            compiled = maker.compiled(one, target) if _takes(target, one) else None
            if compiled is not None:
                native.append(compiled)
                break
    return portable + native


def _takes(target: Target, proven: Proven) -> bool:
    from eipack.errors import BackendNotFound
    from eipack.registry import backend

    try:
        return proven.staged.kind in backend(target).kinds
    except BackendNotFound:
        return False


def _pack(
    maker: Maker,
    proven: Sequence[Proven],
    assets: Assets,
    name: str,
    version: str | None,
    report: Callable[[str], None],
) -> Package:
    report("writing")
    pool = Pool()
    if isinstance(maker.reference.module, nn.Module) and maker.reference.origin != "exported":
        pool.add_model(named_tensors(maker.reference.module))
    elif maker.reference.origin == "exported":
        pool.add_model(maker.reference.artifact.state_dict.items())
    records: list[ProgramRecord] = []
    evidence: list[Evidence] = []
    members: dict[str, bytes] = dict(assets.members)
    for one, program_id in zip(proven, program_ids(proven), strict=True):
        made = record(one.staged, program_id, pool)
        records.append(evolve(made, batch_independent=one.batch_independent))
        evidence.append(evolve(one.evidence, program=program_id))
        for member, data in one.staged.members.items():
            members[f"programs/{program_id}/{member}"] = data
    signature = maker.signature
    sample = maker.trials.all[0]
    samples = {f"input.{s.name}": t for s, t in zip(signature.inputs, sample.inputs, strict=True)}
    for spec, tensor in zip(signature.outputs, sample.expected.leaves, strict=True):
        samples[f"output.{spec.name}"] = tensor
    parts = Parts(
        name=name,
        version=version,
        signature=signature,
        programs=tuple(records),
        members=members,
        pool=pool,
        samples=samples,
        assets=assets.roles,
        evidence=tuple(evidence),
        narrowed=maker.narrowed,
    )
    return _temporary(parts)


def program_ids(proven: Sequence[Proven]) -> list[str]:
    """Name each program by its kind, its method where the kind occurs twice, and a number."""
    kinds = [one.staged.kind for one in proven]
    names = (
        kind if kinds.count(kind) == 1 else f"{kind}-{one.staged.program.method}"
        for kind, one in zip(kinds, proven, strict=True)
    )
    return list(distinct(names))


def _temporary(parts: Parts) -> Package:
    key = signing_key()
    try:
        folder = tempfile.mkdtemp(prefix="eipack-")
    except OSError as error:
        raise PackageIOError(
            f"no temporary folder for the package can be made ({error}); set TMPDIR to one that "
            "exists and can be written to"
        ) from error
    try:
        path = Path(folder) / "package.eipack"
        write_package(path, parts, key)
        path.chmod(0o600)
        package = Package.open(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(package, _remove, folder, os.getpid())
    return package


def _remove(folder: str, owner: int) -> None:
    """Remove the folder, unless this is a forked child of the process that made it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
