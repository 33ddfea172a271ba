"""What a manifest says, as short texts by name, to be compared with another's."""

from __future__ import annotations

from collections.abc import Iterable

from eipack.archive import digest_bytes
from eipack.manifest import Manifest, OutputError, ProgramRecord
from eipack.signature import Signature
from eipack.tree import Tree


def model(manifest: Manifest) -> dict[str, str]:
    """Describe the model as a whole."""
    told = {"name": manifest.name}
    if manifest.version is not None:
        told["version"] = manifest.version
    if manifest.narrowed:
        told["narrowed to"] = ", ".join(manifest.narrowed)
    return told


def signature(given: Signature) -> dict[str, str]:
    """Describe what a call takes and gives."""
    told = {f"dimension {dim.name}": str(dim) for dim in given.dims}
    for side, specs in (("input", given.inputs), ("output", given.outputs)):
        told |= {f"{side} {spec.name}": str(spec) for spec in specs}
        told[f"{side} order"] = ", ".join(spec.name for spec in specs)
    told["input structure"] = _nesting(given.input_tree)
    told["output structure"] = _nesting(given.output_tree)
    told["positional"] = str(given.positional)
    return told


def _nesting(tree: Tree) -> str:
    if tree.kind == "constant":
        return repr(tree.value)
    if not tree.children and not tree.type_name:
        return tree.kind
    inner = [_nesting(child) for child in tree.children]
    if tree.keys:
        inner = [f"{key}={one}" for key, one in zip(tree.keys, inner, strict=True)]
    return f"{tree.type_name or tree.kind}({', '.join(inner)})"


def programs(manifest: Manifest) -> dict[str, str]:
    """Describe each program, its members and what it binds."""
    of_member = digests(manifest, "programs/")
    told: dict[str, str] = {}
    for program in manifest.programs:
        told[program.id] = ", ".join(f"{key} {value}" for key, value in _facts(program).items())
        told |= {name: of_member[name] for name in program.members}
        told[f"{program.id} bindings"] = _bindings(program, manifest)
    return told


def _facts(program: ProgramRecord) -> dict[str, str]:
    facts = {"kind": program.kind, "method": program.method, "convention": program.convention}
    if program.target is not None:
        facts["target"] = program.target
    if program.batch_independent:
        facts["rows"] = "independent"
    return facts | program.attributes


def _bindings(program: ProgramRecord, manifest: Manifest) -> str:
    """Digest which bytes each key is bound to, whatever the entries are called."""
    of_entry = {entry.name: entry.digest for entry in manifest.entries}
    pairs = sorted((key, of_entry[entry]) for key, entry in program.bindings.items())
    return digest_bytes(repr(pairs).encode())


def evidence(manifest: Manifest) -> dict[str, str]:
    """Sum up how each program was shown to agree."""
    told = {}
    for evidence in manifest.evidence:
        errors = [output for check in evidence.checks for output in check.outputs]
        told[f"{evidence.program} on {evidence.target}"] = (
            f"{len(evidence.checks)} checks against {evidence.reference}, "
            f"largest difference {_largest(errors)}"
        )
    return told


def _largest(errors: Iterable[OutputError]) -> str:
    return format(max((error.max_abs or 0.0 for error in errors), default=0.0), ".3g")


def digests(manifest: Manifest, prefix: str) -> dict[str, str]:
    """Describe the members whose names begin so."""
    return {
        record.name: f"{record.size} bytes, {record.digest}"
        for record in manifest.members
        if record.name.startswith(prefix)
    }


def environment(manifest: Manifest) -> dict[str, str]:
    """Describe where the package was made."""
    made = manifest.environment
    known = {
        "eipack": made.eipack,
        "torch": made.torch,
        "python": made.python,
        "platform": made.platform,
    }
    return known | made.libraries


def signers(hints: Iterable[str]) -> dict[str, str]:
    """List the keys that claim to have signed."""
    return {hint[:16]: hint for hint in hints}
