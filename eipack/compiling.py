"""`eipack.compile`: add native programs to a package, beside the portable ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from attrs import evolve, frozen
from torch import Tensor

from eipack.backend import Backend, Program
from eipack.capture.examples import distinct
from eipack.capture.reference import Outputs
from eipack.errors import (
    DeviceNotFound,
    ParityInputsRequired,
    ProgramNotFound,
    TargetSyntaxError,
    UnsupportedModel,
)
from eipack.kinds import PORTABLE, codec
from eipack.manifest import Evidence, ProgramRecord
from eipack.package import Package
from eipack.package.assembly import Parts, write_package
from eipack.package.stored import StoredProgram
from eipack.parity.batches import sizes_of
from eipack.parity.draw import draw_like
from eipack.parity.engines import backend_call, gate_call
from eipack.parity.gate import STATIC_DRAWS, Call, Trial, Trials
from eipack.parity.rows import rows_apart
from eipack.parity.sizes import size_plan
from eipack.pool import Pool
from eipack.registry import locate
from eipack.signature import DimSize, Signature
from eipack.signing import signing_key
from eipack.staging import Staged, record, stage
from eipack.target import Target
from eipack.trust import Trust


@frozen(eq=False)
class _Native:
    """A compiled program that agreed, under the id that it will have."""

    id: str
    staged: Staged
    evidence: Evidence
    batch_independent: bool


def compile(
    package: Package | str | os.PathLike[str],
    target: str | Target | Sequence[str | Target],
    path: str | os.PathLike[str],
    *,
    trust: Trust = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write a package with a program more for each target, compiled for it and checked on it.

    Everything else stays: the portable programs, weights and assets. A program that was
    compiled for the same target before is replaced. The file is signed by this user, whole or
    not written at all.

    Raises:
        TargetSyntaxError: There is no target, or one cannot be parsed.
        UntrustedPackage: No trusted key has signed the package.
        DeviceNotFound: A target is not here; compile where it is.
        UnsupportedModel: A target compiles nothing, or not this model.
        ProgramNotFound: The package holds no program that a target could compile.
        ParityFailed: A compiled program disagrees with the model.
        PackageIOError: The file cannot be written.
    """
    if not isinstance(package, Package):
        with Package.open(package) as opened:
            return compile(opened, target, path, trust=trust, progress=progress)
    report = progress or (lambda _: None)
    several = [target] if isinstance(target, str | Target) else list(target)
    targets = list(dict.fromkeys(Target.parse(one) for one in several))
    if not targets:
        raise TargetSyntaxError("no target was given; name one that compiles, as cpu+inductor")
    package.check_trust(trust)
    natives: list[_Native] = []
    for one in targets:
        natives.append(_compiled(package, one, natives, report))
    report("writing")
    write_package(path, _parts(package, natives), signing_key())
    return Path(path)


def _compiled(
    package: Package, target: Target, others: Sequence[_Native], report: Callable[[str], None]
) -> _Native:
    plugin, place = locate(target)
    portable, program = _first_compiled(package, plugin, target, report)
    staged = stage(evolve(program, target=target), plugin)
    report(f"checking the {staged.kind} program on {place}")
    found = backend_call(staged, place)
    if found is None:
        raise DeviceNotFound(f"{target} went away while it compiled; try again", target=str(target))
    call = found[0]
    checks = _trials(package, portable).run(call, staged.kind)
    chosen = _id(package, staged, target, others)
    evidence = Evidence(chosen, "itself", str(target), checks)
    inputs, _ = package.samples()
    apart = portable.record.batch_independent and (
        rows_apart(call, package.signature, inputs, {}, []) is None
    )
    return _Native(chosen, staged, evidence, apart)


def _first_compiled(
    package: Package, plugin: Backend, target: Target, report: Callable[[str], None]
) -> tuple[StoredProgram, Program]:
    """Compile the first portable program that the backend does not keep as it is."""
    kinds = [kind for kind in plugin.kinds_at(target) if kind in PORTABLE]
    records = [one for kind in kinds for one in package.programs if one.kind == kind]
    if not records:
        raise ProgramNotFound(
            f"{target} compiles {', '.join(kinds)} programs, and {package.path} has none; export "
            f"the model again with target={str(target)!r}"
        )
    for one in records:
        report(f"compiling the {one.id} program for {target}")
        reader = package._read_program(one)
        artifact = codec(one.kind).load(reader, torch.device("cpu"))
        program = Program(one.kind, artifact, package.signature, one.method, one.convention)
        native = plugin.compile(program, target)
        if native is not program:
            return reader, native
    raise UnsupportedModel(
        f"{target} compiles nothing: it runs {', '.join(kinds)} programs as they are; name an "
        "engine that does, as cpu+inductor"
    )


def _id(package: Package, staged: Staged, target: Target, others: Sequence[_Native]) -> str:
    """Return the id of the program for the target that is there, or a new one."""
    for one in package.programs:
        if one.kind == staged.kind and one.target == str(target):
            return one.id
    taken = [one.id for one in package.programs] + [one.id for one in others]
    return distinct([*dict.fromkeys(taken), staged.kind])[-1]


def _trials(package: Package, portable: StoredProgram) -> Trials:
    """Return the samples and fresh inputs, with what the portable program gives for them."""
    signature = package.signature
    inputs, expected = package.samples()
    names = tuple(spec.name for spec in signature.outputs)
    sample = sizes_of(signature, inputs)
    tree = signature.output_tree
    trials = [Trial(sample, None, inputs, Outputs(tree, expected, names))]
    run = gate_call(portable)
    plan = [sample] * (STATIC_DRAWS - 1) + size_plan(signature.dims, sample)
    for seed, sizes in enumerate(plan, 1):
        leaves = _drawn(signature, inputs, sizes, seed)
        answer = _answer(run, leaves)
        if answer is not None:
            trials.append(Trial(dict(sizes), seed, leaves, Outputs(tree, answer, names)))
    if len(trials) == 1:
        raise ParityInputsRequired(
            "the package's own program runs on no inputs drawn like its samples, so nothing can "
            f"be shown; export the model again with target={str(portable.kind)!r}"
        )
    return Trials.of(trials, tuple(spec.name for spec in signature.inputs))


def _drawn(
    signature: Signature, samples: Sequence[Tensor], sizes: Mapping[str, int], seed: int
) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [
        tuple(size.at(sizes) if isinstance(size, DimSize) else int(size or 0) for size in one.shape)
        for one in signature.inputs
    ]
    pairs = zip(samples, shapes, strict=True)
    return tuple(draw_like(sample, shape, generator, None) for sample, shape in pairs)


def _answer(run: Call, leaves: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
    try:
        with torch.inference_mode():
            found = run(*(leaf.clone() for leaf in leaves))
    except Exception:  # noqa: BLE001 - the model does not accept such inputs: others are tried
        return None
    return (found.clone(),) if isinstance(found, Tensor) else tuple(one.clone() for one in found)


def _parts(package: Package, natives: Sequence[_Native]) -> Parts:
    """Put the package together again, with the native programs in the place of older ones."""
    manifest = package.manifest
    new = {one.id for one in natives}
    kept = [one for one in package.programs if one.id not in new]
    pool = _pool(package, kept)
    sizes = {member.name: member.size for member in manifest.members}
    records = [
        evolve(one, shared_bytes=0, own_bytes=sum(sizes[name] for name in one.members))
        for one in kept
    ]
    members = dict(_members(package, kept))
    for one in natives:
        made = record(one.staged, one.id, pool)
        records.append(evolve(made, batch_independent=one.batch_independent))
        for name, data in one.staged.members.items():
            members[f"programs/{one.id}/{name}"] = data
    inputs, outputs = package.samples()
    samples = {f"input.{s.name}": t for s, t in zip(manifest.signature.inputs, inputs, strict=True)}
    for spec, tensor in zip(manifest.signature.outputs, outputs, strict=True):
        samples[f"output.{spec.name}"] = tensor
    older = tuple(one for one in manifest.evidence if one.program not in new)
    return Parts(
        name=manifest.name,
        version=manifest.version,
        signature=manifest.signature,
        programs=tuple(records),
        members=members,
        pool=pool,
        samples=samples,
        assets=manifest.assets,
        evidence=older + tuple(one.evidence for one in natives),
        narrowed=manifest.narrowed,
    )


def _members(package: Package, kept: Sequence[ProgramRecord]) -> Iterator[tuple[str, bytes]]:
    for one in kept:
        reader = package._read_program(one)
        for name in one.members:
            yield name, reader.member(name.removeprefix(f"programs/{one.id}/"))
    for member in package.manifest.members:
        if member.name.startswith("assets/"):
            yield member.name, package.asset(member.name.removeprefix("assets/"))


def _pool(package: Package, kept: Sequence[ProgramRecord]) -> Pool:
    """Return the package's weights as a pool, without those that only replaced programs used."""
    users: dict[str, set[str]] = {}
    for tensor in package.manifest.tensors:
        users.setdefault(tensor.entry, set()).add("model")
    for one in kept:
        for entry_name in one.bindings.values():
            users.setdefault(entry_name, set()).add(one.id)
    weights = package._read_program(package.programs[0]).weights
    pool = Pool()
    pool.tensors.extend(package.manifest.tensors)
    pool.users.update(users)
    for entry in package.manifest.entries:
        if entry.name in users:
            pool.keep(entry, weights.storage(entry.name))
    return pool
