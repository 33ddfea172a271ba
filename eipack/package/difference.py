"""What two packages do not have in common, by their manifests alone.

Nothing of either is run, and neither needs to be trusted: the digests are those that the
manifests give, and `eipack verify` tells whether a file holds what its manifest says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack

from attrs import frozen

from eipack.manifest import SAMPLES, Manifest
from eipack.package import facts
from eipack.package.package import Package


@frozen
class Change:
    """Something that differs; `before` is None where it was added, `after` where it was removed."""

    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.name}: added {self.after}"
        if self.after is None:
            return f"{self.name}: removed {self.before}"
        return f"{self.name}: {self.before} -> {self.after}"


@frozen
class TensorSummary:
    """A tensor of a package; `nbytes` and `digest` are those of the storage that it views."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    nbytes: int
    digest: str

    def __str__(self) -> str:
        sizes = ", ".join(map(str, self.shape))
        return f"{self.name}: {self.dtype}[{sizes}], {self.nbytes} bytes, {self.digest[:23]}"


@frozen
class TensorChange:
    """A tensor that both packages have, in different form; `what` says in what it differs."""

    name: str
    what: tuple[str, ...]
    before: TensorSummary
    after: TensorSummary

    def __str__(self) -> str:
        return f"{self.name}: {', '.join(self.what)}: {self.before} -> {self.after}"


@frozen
class WeightsDifference:
    """Weights tensor by tensor; `equal_bytes` counts a storage that several tensors view once."""

    added: tuple[TensorSummary, ...]
    removed: tuple[TensorSummary, ...]
    changed: tuple[TensorChange, ...]
    equal: int
    equal_bytes: int

    @property
    def same(self) -> bool:
        """Whether no tensor differs."""
        return not (self.added or self.removed or self.changed)


@frozen
class Difference:
    """Everything in which package `b` differs from package `a` (both by their paths)."""

    a: str
    b: str
    model: tuple[Change, ...]
    signature: tuple[Change, ...]
    programs: tuple[Change, ...]
    evidence: tuple[Change, ...]
    weights: WeightsDifference
    assets: tuple[Change, ...]
    samples: tuple[Change, ...]
    environment: tuple[Change, ...]
    signers: tuple[Change, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs but, perhaps, who signed."""
        return self.weights.same and not any(
            (
                self.model,
                self.signature,
                self.programs,
                self.evidence,
                self.assets,
                self.samples,
                self.environment,
            )
        )


def diff(a: Package | str | os.PathLike[str], b: Package | str | os.PathLike[str]) -> Difference:
    """Compare two packages; neither is trusted, and torch is not imported.

    Raises:
        PackageIOError: A file cannot be read.
        MalformedPackage: One is no canonical package.
        FormatVersionError: One is of a later format.
    """
    with ExitStack() as stack:
        first, second = (
            one if isinstance(one, Package) else stack.enter_context(Package.open(one))
            for one in (a, b)
        )
        return _compare(first, second)


def _compare(a: Package, b: Package) -> Difference:
    old, new = a.manifest, b.manifest
    return Difference(
        a=a.path,
        b=b.path,
        model=_changes(facts.model(old), facts.model(new)),
        signature=_changes(facts.signature(old.signature), facts.signature(new.signature)),
        programs=_changes(facts.programs(old), facts.programs(new)),
        evidence=_changes(facts.evidence(old), facts.evidence(new)),
        weights=_weights(_tensors(old), _tensors(new)),
        assets=_changes(facts.digests(old, "assets/"), facts.digests(new, "assets/")),
        samples=_changes(facts.digests(old, SAMPLES), facts.digests(new, SAMPLES)),
        environment=_changes(facts.environment(old), facts.environment(new)),
        signers=_changes(facts.signers(a.signers()), facts.signers(b.signers())),
    )


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Change, ...]:
    return tuple(
        Change(name, old.get(name), new.get(name))
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    )


def _tensors(manifest: Manifest) -> dict[str, TensorSummary]:
    """List the model's tensors, then the entries that none of them views, as constants."""
    entries = {entry.name: entry for entry in manifest.entries}
    found = {}
    for tensor in manifest.tensors:
        entry = entries[tensor.entry]
        found[tensor.name] = TensorSummary(
            tensor.name,
            tensor.dtype,
            tensor.shape,
            tensor.strides,
            tensor.offset,
            entry.nbytes,
            entry.digest,
        )
    viewed = {tensor.entry for tensor in manifest.tensors}
    for entry in manifest.entries:
        if entry.name not in viewed:
            name = f"constant {entry.name}"
            found[name] = TensorSummary(
                name, entry.dtype, entry.shape, (), 0, entry.nbytes, entry.digest
            )
    return found


def _weights(
    old: Mapping[str, TensorSummary], new: Mapping[str, TensorSummary]
) -> WeightsDifference:
    both = [(tensor, new[name]) for name, tensor in old.items() if name in new]
    equal = [tensor for tensor, other in both if tensor == other]
    return WeightsDifference(
        added=tuple(tensor for name, tensor in new.items() if name not in old),
        removed=tuple(tensor for name, tensor in old.items() if name not in new),
        changed=tuple(_tensor_change(one, other) for one, other in both if one != other),
        equal=len(equal),
        equal_bytes=sum({tensor.digest: tensor.nbytes for tensor in equal}.values()),
    )


def _tensor_change(before: TensorSummary, after: TensorSummary) -> TensorChange:
    what = []
    if before.dtype != after.dtype:
        what.append("dtype")
    if before.shape != after.shape:
        what.append("shape")
    if (before.strides, before.offset) != (after.strides, after.offset):
        what.append("layout")
    if before.digest != after.digest:
        what.append("values")
    return TensorChange(before.name, tuple(what), before, after)
