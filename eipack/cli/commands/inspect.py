"""`eipack inspect`: what a package says of itself, without loading it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eipack.cli.arguments import as_json, example, package_file
from eipack.cli.printing import plural, print_facts, print_json, print_table, size_text
from eipack.cli.signers import Signer, signers

if TYPE_CHECKING:
    from eipack.manifest import Evidence, ProgramRecord
    from eipack.package import Package


@click.command(epilog=example("eipack inspect resnet18.eipack"))
@package_file
@click.option("--tensors", is_flag=True, help="List every weight too.")
@as_json
def inspect(file: Path, tensors: bool, as_json: bool) -> None:
    """Show what a package holds, without loading it.

    No trust is needed. With --json: the whole manifest, the file's size and who signed it.
    """
    import eipack

    with eipack.open(file) as package:
        if as_json:
            print_json(_document(package))
            return
        print_facts(_facts(package))
        if tensors:
            click.echo()
            print_table(
                ("weight", "dtype", "shape", "bytes", "entry"), _tensors(package), right=("bytes",)
            )


def _document(package: Package) -> dict[str, Any]:
    import msgspec

    return {
        "file": {"path": package.path, "size_bytes": package.size},
        "signers": [signer.to_json() for signer in signers(package)],
        "manifest": msgspec.to_builtins(package.manifest),
    }


def _facts(package: Package) -> Iterator[tuple[str, str]]:
    manifest = package.manifest
    yield "name", f"{package.name} {package.version or ''}".strip()
    yield "file", f"{package.path}, {size_text(package.size)}"
    for spec in package.signature.inputs:
        yield "input", str(spec)
    for spec in package.signature.outputs:
        yield "output", str(spec)
    for dim in package.signature.dims:
        yield "dimension", str(dim)
    if manifest.narrowed:
        yield "narrowed", f"proved only for {', '.join(manifest.narrowed)}"
    for program in package.programs:
        yield from _program(program)
    weights = size_text(sum(entry.nbytes for entry in manifest.entries))
    yield "weights", f"{plural(len(manifest.tensors), 'tensor')}, {weights}"
    for role in manifest.assets:
        files = package.asset_files(role).values()
        sizes = {member.name: member.size for member in manifest.members}
        total = size_text(sum(sizes[f"assets/{name}"] for name in files))
        yield "asset", f"{role}: {plural(len(files), 'file')}, {total}"
    for evidence in manifest.evidence:
        yield "evidence", _evidence(evidence)
    made = manifest.environment
    yield (
        "made with",
        f"eipack {made.eipack}, torch {made.torch}, Python {made.python}, {made.platform}",
    )
    found = signers(package)
    if not found:
        yield "signed by", "nobody; it cannot be loaded until it is signed (eipack sign)"
    for signer in found:
        yield "signed by", _signer(signer)


def _program(program: ProgramRecord) -> Iterator[tuple[str, str]]:
    made_for = f" for {program.target}" if program.target else ""
    shared, own = size_text(program.shared_bytes), size_text(program.own_bytes)
    name = program.id if program.id == program.kind else f"{program.id} ({program.kind})"
    rows = ", rows independent" if program.batch_independent else ""
    yield (
        "program",
        f"{name} by {program.method}{made_for}: {shared} shared, {own} its own{rows}",
    )
    if program.target and program.attributes:
        needs = (f"{need} {_short(value)}" for need, value in program.attributes.items())
        yield "needs", f"{program.id}: {', '.join(needs)}"


def _short(text: str) -> str:
    """Return the count of words in place of many."""
    words = text.split()
    return text if len(words) < 4 else f"({len(words)} sets)"


def _evidence(evidence: Evidence) -> str:
    against = "the eager model" if evidence.reference == "eager" else "the model as it was given"
    head = f"{evidence.program} on {evidence.target}"
    if not evidence.checks:
        return f"{head}: not checked, the target was not there"
    errors = [output.max_abs for check in evidence.checks for output in check.outputs]
    worst = max((error for error in errors if error is not None), default=0.0)
    count = plural(len(evidence.checks), "check")
    return f"{head}: {count} against {against}, largest difference {worst:.2g}"


def _signer(signer: Signer) -> str:
    if signer.key_id is None:
        return f"key {signer.hint[:16]}…: {signer.problem}"
    return f"{signer.label} ({signer.key_id}), trusted"


def _tensors(package: Package) -> Iterator[tuple[str, ...]]:
    sizes = {entry.name: entry.nbytes for entry in package.manifest.entries}
    for tensor in package.manifest.tensors:
        shape = "x".join(map(str, tensor.shape)) or "scalar"
        yield tensor.name, tensor.dtype, shape, f"{sizes[tensor.entry]:,}", tensor.entry
