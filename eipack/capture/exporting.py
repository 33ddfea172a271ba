"""`eipack.export`: from a model to a package whose programs are proved."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve
from torch import nn

from eipack.capture.making import Maker, Options, Proven
from eipack.capture.plan import Need, plan
from eipack.capture.preserve import preserved
from eipack.capture.reference import named_tensors
from eipack.capture.sources import open_reference
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
    `dummy_inputs` or torchvision metadata. `dynamic_shapes` is as in torch.export, for every
    method. `method` is `auto`, `trace`, `script`, `export` or several; `programs` names
    kinds (`torchscript`, `exported`, `onnx`); `target` says what the package must be
    ready for. `input_specs` maps an input's name to its `low` and `high`, or its `values`;
    `parity_inputs` are the caller's own calls to test with. `assets` maps a role (`tokenizer`,
    `labels`, `license`, …) to a path, bytes, a list of labels, or a tokenizer.

    The model is left as it was. The package lies in a temporary file until it is saved.

    Raises:
        ExampleInputsRequired: There are no example inputs.
        CaptureError: The model cannot be captured, or is no function of its inputs.
        ParityError: A program disagrees with the model, or nothing could be shown.
        MethodConflict: The method cannot give the kinds asked for.
    """
    report = progress or (lambda _: None)
    reference, found_name = open_reference(model, inputs, kwargs)
    options = Options(dynamic_shapes, input_specs, parity_inputs, allow_traced_branches)
    found = collect(assets or {})
    targets = _targets(target)
    needs = plan(method, programs, targets, reference.origin)
    methods = frozenset(m for need in needs for request in need for m in request.methods)
    with preserved(reference.module) as snapshot:
        maker = Maker(reference, snapshot, options, methods, report)
        proven = _make(maker, needs, targets)
        return _pack(maker, proven, found, name or found_name, version, report)


def _targets(target: Targets) -> list[Target]:
    if target is None:
        return []
    if isinstance(target, str | Target):
        return [Target.parse(target)]
    return [Target.parse(one) for one in target]


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
        records.append(record(one.staged, program_id, pool))
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
    """Name each program by its kind, and by its method too where the kind occurs twice."""
    kinds = [one.staged.kind for one in proven]
    return [
        kind if kinds.count(kind) == 1 else f"{kind}-{one.staged.program.method}"
        for kind, one in zip(kinds, proven, strict=True)
    ]


def _temporary(parts: Parts) -> Package:
    key = signing_key()
    folder = tempfile.mkdtemp(prefix="eipack-")
    try:
        path = Path(folder) / "package.eipack"
        write_package(path, parts, key)
        path.chmod(0o600)
        package = Package.open(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(package, shutil.rmtree, folder, ignore_errors=True)
    return package
